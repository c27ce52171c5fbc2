//! Ending a map early: what poold is told. See the table in the [module above](super).

use signal_hook::low_level::emulate_default_handler;

use super::errands::{Errand, Errands};
use super::lane::InFlight;
use crate::link::connect::Link;
use crate::term::text::say;

/// Where the map stands.
#[derive(Debug)]
pub struct Stop {
    are_calls: bool,
    stage: StopStage,
    /// The first signal that came.
    signal: Option<i32>,
    is_unheard: bool,
    errands: Errands,
}

/// How far the end of the map has come. It only ever goes down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StopStage {
    /// Items are submitted.
    Going,
    /// Nothing more is submitted.
    Soon,
    /// Besides, jobs that have not started are canceled.
    Halted,
    /// Besides, running jobs have got a signal, and the others are canceled.
    Interrupted,
    /// All jobs are canceled.
    Canceling,
}

impl Stop {
    /// A map that goes on. `are_calls`: the jobs are calls, not commands.
    pub fn new(link: &Link, are_calls: bool) -> Self {
        let errands = Errands::new(link.clone());
        Self { are_calls, stage: StopStage::Going, signal: None, is_unheard: false, errands }
    }

    /// Whether nothing more is submitted.
    pub fn is_stopping(&self) -> bool {
        self.stage > StopStage::Going
    }

    /// Whether a canceled job was canceled by this map.
    pub fn is_canceling(&self) -> bool {
        self.stage >= StopStage::Halted
    }

    /// Whether nobody reads our stdout.
    pub fn is_unheard(&self) -> bool {
        self.is_unheard
    }

    /// The signal by which poolctl has to end, if any.
    pub fn signal(&self) -> Option<i32> {
        self.signal
    }

    /// Submits nothing more from now on.
    pub fn soon(&mut self) {
        self.stage = self.stage.max(StopStage::Soon);
    }

    /// Submits nothing more, and cancels the jobs that have not started.
    pub fn halt(&mut self, accepted: &[InFlight]) {
        if self.stage < StopStage::Halted {
            self.stage = StopStage::Halted;
            self.errands.add(Errand::CancelUnstarted(ids(accepted)));
        }
    }

    /// Cancels all jobs. `accepted`: the accepted jobs in flight.
    pub fn now(&mut self, accepted: &[InFlight]) {
        if self.stage < StopStage::Canceling {
            self.stage = StopStage::Canceling;
            self.errands.add(Errand::Cancel(ids(accepted)));
        }
    }

    /// Cancels all jobs, because nobody reads our stdout.
    pub fn unheard(&mut self, accepted: &[InFlight]) {
        self.is_unheard = true;
        self.now(accepted);
    }

    /// The first signal is passed on, the second cancels all jobs, and the third has its default effect.
    /// While poold is away nothing runs: the first signal has the jobs canceled when poold is back, and the
    /// second has its default effect.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn on_signal(&mut self, signal: i32, accepted: &[InFlight], is_away: bool) -> anyhow::Result<()> {
        let is_first = self.signal.is_none();
        self.signal.get_or_insert(signal);

        if is_away {
            return self.on_signal_while_away(signal, is_first);
        }

        match self.stage {
            // A call has no process of its own that could handle the signal.
            StopStage::Going | StopStage::Soon | StopStage::Halted if self.are_calls => self.now(accepted),
            StopStage::Going | StopStage::Soon | StopStage::Halted => {
                self.stage = StopStage::Interrupted;
                self.interrupt(signal, accepted);
            }
            StopStage::Interrupted => self.now(accepted),
            StopStage::Canceling if is_first => {}
            StopStage::Canceling => emulate_default_handler(signal)?,
        }
        Ok(())
    }

    fn on_signal_while_away(&mut self, signal: i32, is_first: bool) -> anyhow::Result<()> {
        // The jobs in flight are tied to poolctl, or go on without it. poold sees to both when it is back.
        if !is_first {
            return Ok(emulate_default_handler(signal)?);
        }

        // The lanes say which jobs are accepted when they are back, and then these are canceled.
        self.stage = self.stage.max(StopStage::Interrupted);
        say(format_args!(
            "poold is away; the jobs in flight are canceled when it is back; a second signal ends \
             poolctl at once"
        ));
        Ok(())
    }

    /// Waiting jobs are canceled before running jobs end by the signal and make room for them. A waiting job
    /// may have started meanwhile, the oldest first, so the newest is told first.
    fn interrupt(&mut self, signal: i32, accepted: &[InFlight]) {
        let (running, mut waiting): (Vec<InFlight>, Vec<InFlight>) =
            accepted.iter().copied().partition(|job| job.started);
        waiting.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));

        for jobs in [waiting, running] {
            self.errands.add(Errand::Interrupt { signal, ids: ids(&jobs) });
        }
    }

    /// Acts on jobs that were accepted after the map had stopped, or whose cancellation may have been lost
    /// with a poold that has gone.
    pub fn on_accepted(&mut self, ids: &[u64]) {
        match self.stage {
            StopStage::Going | StopStage::Soon => {}
            StopStage::Halted => self.errands.add(Errand::CancelUnstarted(ids.to_vec())),
            StopStage::Interrupted | StopStage::Canceling => self.errands.add(Errand::Cancel(ids.to_vec())),
        }
    }
}

fn ids(jobs: &[InFlight]) -> Vec<u64> {
    jobs.iter().map(|job| job.id).collect()
}
