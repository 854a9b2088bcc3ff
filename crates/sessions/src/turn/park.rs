//! Whether a next step may begin: a foreground turn waits for its client.

use std::time::Duration;

use super::{Runner, Stopped, refuse_decision};
use crate::live::Command;
use crate::state::{Action, Event};

/// A foreground turn that nobody comes back for ends after so long.
pub(crate) const PARKED_MAX: Duration = Duration::from_secs(10 * 60);

impl Runner {
    /// Waits until the next step may begin. `Some` = it may not, and this is to be done instead.
    pub(super) async fn gate(&mut self) -> Result<Option<Vec<Action>>, Stopped> {
        while let Ok(command) = self.commands.try_recv() {
            if let Some(actions) = self.told(command)? {
                return Ok(Some(actions));
            }
        }
        if self.parts.shutdown.is_cancelled() {
            self.commit_batch().await?;
            return Err(Stopped);
        }
        if !self.needs_client() || *self.clients.borrow() > 0 {
            return Ok(None);
        }
        self.commit_batch().await?;
        self.park().await
    }

    /// Whether it only goes on for a client.
    pub(super) const fn needs_client(&self) -> bool {
        !self.ask.background && !self.turn.is_released()
    }

    async fn park(&mut self) -> Result<Option<Vec<Action>>, Stopped> {
        let parked = self.parts.clock.sleep(PARKED_MAX);
        let mut parked = std::pin::pin!(parked);
        loop {
            let command = tokio::select! {
                back = self.clients.wait_for(|clients| *clients > 0) => {
                    return back.map(|_| None).map_err(|_| Stopped);
                }
                command = self.commands.recv() => command.ok_or(Stopped)?,
                () = &mut parked => Command::Cancel { by: "nobody came back".to_owned() },
                () = self.parts.shutdown.cancelled() => return Err(Stopped),
            };
            if let Some(actions) = self.told(command)? {
                return Ok(Some(actions));
            }
        }
    }

    /// Takes a command while nothing runs and nothing is in doubt.
    fn told(&mut self, command: Command) -> Result<Option<Vec<Action>>, Stopped> {
        match command {
            Command::Cancel { by } => self.note(Event::CancelAsked { by }).map(Some),
            Command::Resolve { reply, .. } => {
                refuse_decision(reply);
                Ok(None)
            }
        }
    }
}
