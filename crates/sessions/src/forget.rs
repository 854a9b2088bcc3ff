//! Copies that others keep of what sessions hold: the state of prompts in engines and its files.
//!
//! The store lists a session as forgotten in the commit that removes a body of it, or that ends the
//! turn which was open meanwhile, so a crash loses nothing. Whoever keeps copies is told until it
//! says that none is left: at once, and again at every start. This module must not know who that is
//! or what a copy looks like.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use storage::Forgotten;
use types::clock::within;
use types::ids::SessionId;

use crate::Inner;

/// What was not forgotten is tried again after this: bodies go everywhere within a minute.
const FORGET_AGAIN: Duration = Duration::from_secs(10);
/// Whoever does not answer so long is asked again later.
const FORGET_WITHIN: Duration = Duration::from_secs(20);
/// Sessions that are read at once.
const FORGET_PAGE: usize = 100;

/// Whether all copies are gone.
pub type Forgetting = BoxFuture<'static, Result<(), Box<dyn Error + Send + Sync>>>;

/// Who keeps copies of what sessions hold, outside the store.
pub trait Forget: Send + Sync + fmt::Debug {
    /// Removes every copy of what this session holds, in memory and on disk. Asking again is safe.
    ///
    /// # Errors
    /// A copy may be left; it is asked again.
    fn forget(&self, account: &str, session: &SessionId) -> Forgetting;
}

impl Inner {
    /// Has sessions forgotten as soon as the store lists them, until this node stops.
    pub(crate) async fn keep_forgetting(&self) {
        loop {
            let left = tokio::select! {
                left = self.forget_all() => left,
                () = self.parts.shutdown.cancelled() => return,
            };
            tokio::select! {
                () = self.forgetting.notified() => {}
                () = self.parts.clock.sleep(FORGET_AGAIN), if left => {}
                () = self.parts.shutdown.cancelled() => return,
            }
        }
    }

    /// Has every listed session forgotten; says whether some are left to be tried again.
    async fn forget_all(&self) -> bool {
        let (mut after, mut left) = (0, 0_u64);
        loop {
            let page = match self.parts.store.forgotten(after, FORGET_PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "sessions to forget were not read");
                    return true;
                }
            };
            let Some(last) = page.last() else { break };
            after = last.number;
            for forgotten in page {
                let Err(error) = self.forget(&forgotten).await else { continue };
                if left == 0 {
                    tracing::warn!(%error, "a session was not forgotten everywhere yet");
                }
                left += 1;
            }
        }
        left > 0
    }

    async fn forget(&self, forgotten: &Forgotten) -> Result<(), Box<dyn Error + Send + Sync>> {
        let asked = self.parts.forget.forget(&forgotten.account, &forgotten.session);
        within(self.parts.clock.as_ref(), FORGET_WITHIN, asked).await.ok_or("no answer")??;
        self.parts.store.forgotten_everywhere(forgotten.number).await?;
        Ok(())
    }
}
