//! What a service manager is told, where there is one: sd_notify(3), and the watchdog, which covers the loop
//! itself.

use std::time::Duration;
use std::{env, process};

use sd_notify::NotifyState;

/// The service manager that started poold, if one did.
#[derive(Debug)]
pub struct ServiceManager {
    /// From one sign of life to the next: half of what the manager allows.
    interval: Option<Duration>,
    next: Duration,
}

impl ServiceManager {
    /// `WATCHDOG_PID` names the guardian, the service's main process; the signs of life come from here all
    /// the same (`NotifyAccess=all`), since it is this loop that must not hang.
    pub fn from_environment() -> Self {
        let allowed =
            env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Self { interval: allowed.map(|allowed| allowed / 2), next: Duration::ZERO }
    }

    pub fn ready(&self) {
        let status = format!("Serving; supervisor is pid {}", process::id());
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Not yet stopping: from then on a manager's patience is short.
    pub fn draining(&self) {
        notify(&[NotifyState::Status("Draining: finishes what it has accepted, then ends")]);
    }

    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// When the next sign of life is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.interval.map(|_| self.next)
    }

    /// Gives a sign of life, if one is due.
    pub fn alive(&mut self, now: Duration) {
        if let Some(interval) = self.interval
            && now >= self.next
        {
            self.next = now + interval;
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Without a service manager this does nothing.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
