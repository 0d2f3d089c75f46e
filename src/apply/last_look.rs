//! The last look at a tag or manifest before the request to remove it, and the lease at that time.
//!
//! No lease prevents the last instruction of a process that was stopped: it could look, be stopped until another process
//! has taken over, and send its request afterwards. So little time may pass between the two, by a clock that counts the
//! suspension of the machine, and the lease must outlast it.

use std::sync::Arc;
use std::time::Duration;

use super::ApplyContext;
use crate::registry::WritePermit;
use crate::state::LeaseToken;

/// The time since a fixed instant, from a clock that cannot be set and counts suspension; injected by the entry points.
pub type Uptime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The most time between the last look at a tag or manifest and the request to remove it.
const MAX_LOOK_AGE: Duration = Duration::from_secs(5);

/// A look at a tag or manifest. Its age counts from before the question was sent: a process that is stopped cannot tell when
/// the answer came.
pub(super) struct LastLook {
    uptime: Uptime,
    lease: LeaseToken,
    begun_at: Duration,
}

impl ApplyContext {
    /// Begins a look.
    pub(super) fn begin_look(&self) -> LastLook {
        LastLook { uptime: Arc::clone(&self.uptime), lease: self.lease.clone(), begun_at: (self.uptime)() }
    }

    /// Returns why nothing may be removed by the lease, or `None`. Asks the state only if the lease may be another
    /// process's by now, as after a pause. That may take long, so it comes before a look.
    pub(super) async fn lost_lease(&self) -> Option<String> {
        if self.lease.is_current() {
            return None;
        }
        let confirmed = self.store.confirm_lease(&self.lease).await;
        confirmed.err().map(|error| format!("it was not removed: {}", error.chain()))
    }
}

impl LastLook {
    /// Binds a permit to this look: its request is sent within [`MAX_LOOK_AGE`] and while the lease lasts, or not at all.
    pub(super) fn bind(self, permit: WritePermit) -> WritePermit {
        let Self { uptime, lease, begun_at } = self;
        permit.only_while(move || lease.is_current() && uptime().saturating_sub(begun_at) <= MAX_LOOK_AGE)
    }
}
