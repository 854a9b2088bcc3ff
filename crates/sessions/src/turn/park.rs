//! Whether a next step may begin, and what is heard while it is waited for: a foreground turn waits
//! for its client, and every wait between two steps ends when somebody cancels, the client goes or
//! this node stops.

use std::time::Duration;

use futures_util::FutureExt;

use super::batch::FLUSH_AFTER;
use super::{Runner, Stopped, refuse_decision};
use crate::live::Command;
use crate::state::{Action, Event};

/// A foreground turn that nobody comes back for ends after so long.
pub(crate) const PARKED_MAX: Duration = Duration::from_secs(10 * 60);

/// Why a wait between two steps ended before its time: somebody cancels, or [`Runner::gate`] knows.
#[derive(Debug)]
pub(crate) struct Called(pub(super) Option<Command>);

impl Runner {
    /// Waits for `work` between two steps, unless something else is to be done first: then it is
    /// dropped. What has happened becomes durable meanwhile if it takes long.
    pub(super) async fn attend<W: Future>(
        &mut self,
        work: W,
    ) -> Result<Result<W::Output, Called>, Stopped> {
        let mut work = std::pin::pin!(work);
        // Mostly there is nothing to wait for.
        if let Some(done) = work.as_mut().now_or_never() {
            return Ok(Ok(done));
        }
        let asker = self.batch.opening.as_ref().map(|opening| opening.gone.clone());
        let begins = asker.is_some();
        let asker = asker.unwrap_or_default();
        loop {
            // Who asks for a turn that is not durable yet is not among its clients.
            let needs_client = self.needs_client() && !begins;
            let can_flush = !begins && !self.batch.is_empty();
            let command = tokio::select! {
                biased;
                done = &mut work => return Ok(Ok(done)),
                command = self.commands.recv() => Some(command.ok_or(Stopped)?),
                () = self.parts.shutdown.cancelled() => return Ok(Err(Called(None))),
                () = asker.cancelled(), if begins => return Ok(Err(Called(None))),
                gone = self.clients.wait_for(|clients| *clients == 0), if needs_client => {
                    drop(gone);
                    return Ok(Err(Called(None)));
                }
                () = self.parts.clock.sleep(FLUSH_AFTER), if can_flush => None,
            };
            match command {
                None => self.commit_batch().await?,
                Some(Command::Resolve { reply, .. }) => refuse_decision(reply),
                Some(Command::Cancel { .. }) => return Ok(Err(Called(command))),
            }
        }
    }

    /// What is to be done instead of the next step, if it was called for.
    pub(super) fn called(
        &mut self,
        Called(command): Called,
    ) -> Result<Option<Vec<Action>>, Stopped> {
        command.map_or(Ok(None), |command| self.told(command))
    }

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
        // Others go on meanwhile.
        self.tries.let_go();
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
