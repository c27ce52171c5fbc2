//! The control group of one slot as its worker uses it: attempts are started in it, one at a time, and what
//! it has counted meanwhile is told.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pool_proto::nouns::Usage;

use super::group::{Condition, Group, remove, write};
use crate::job::Verdict;
use crate::kernel::end::{Reaped, Sweeper};
use crate::kernel::spawn::{SpawnGroup, is_usable};

/// Whether somebody has written limits is looked at so often at most: it takes as long as starting a process.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// See the module's description.
#[derive(Debug)]
pub struct SlotGroup {
    group: Group,
    /// What the processes in it have used, those that nobody waits for included.
    cpu: File,
    memory: Option<MemoryCounters>,
    /// What is in it may use so much memory, in bytes.
    memory_limit: Option<u64>,
    /// When the attempt was started.
    before: Counters,
    by_clone: bool,
    /// Something in it has been killed.
    is_used_up: bool,
    /// What its settings were when it was made, and when they were looked at last.
    settings: Vec<(PathBuf, Vec<u8>)>,
    looked_at: Instant,
}

/// The memory controller's files.
#[derive(Debug)]
struct MemoryCounters {
    current: File,
    /// Read and written: what is written sets this descriptor's peak back (Linux 6.12 and later).
    peak: File,
    events: File,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counters {
    user_us: u64,
    system_us: u64,
    memory: u64,
    /// The most memory that was in use, by whomever, or since the counter was set back.
    peak: Option<u64>,
    is_set_back: bool,
    oom_kills: u64,
    /// How often memory has run out in the group itself, because of its limit.
    ooms: u64,
}

impl SlotGroup {
    /// # Errors
    /// Those of open(2): there is no such group.
    pub fn open(path: &Path) -> io::Result<Self> {
        let cpu = File::open(path.join("cpu.stat"))?;
        let group = Group::open(path)?;
        // In a frozen one the process that tries it would stand still, and we with it.
        let is_frozen = group.condition() == Condition::Frozen;
        let by_clone = !is_frozen && is_usable(group.folder());
        Ok(Self {
            cpu,
            memory: MemoryCounters::open(path),
            memory_limit: None,
            before: Counters::default(),
            by_clone,
            is_used_up: is_frozen,
            settings: group.settings(),
            looked_at: Instant::now(),
            group,
        })
    }

    /// Where to start an attempt.
    pub fn spawn_group(&self) -> SpawnGroup<'_> {
        SpawnGroup { folder: self.group.folder(), by_clone: self.by_clone }
    }

    /// An attempt is about to be started. Where somebody has made the group unfit for one it is made anew, so
    /// that an attempt never pays for what was done to an earlier one's group; says what had been done.
    pub fn begin(&mut self) -> Option<String> {
        let harm = self.harm();
        if harm.is_some() {
            self.renew();
        }
        self.count_from_here();
        harm
    }

    /// The attempt's process has been killed before it could run: whoever has killed the group has made it
    /// unfit (see [`is_usable`]).
    pub fn begin_again(&mut self) -> String {
        self.renew();
        self.count_from_here();
        "was killed (cgroup.kill)".to_owned()
    }

    /// The attempt that is about to be started may use so much memory. True where the kernel sees to that
    /// limit: what goes beyond it is killed with all else that is in the group.
    pub fn limit_memory(&mut self, limit: Option<u64>) -> bool {
        if self.memory_limit != limit && !self.write_limit(limit) && self.memory_limit.is_some() {
            // The limit of an earlier attempt, which cannot be taken away, goes with the group.
            self.renew();
            self.count_from_here();
        }
        limit.is_some() && self.memory_limit == limit
    }

    fn write_limit(&mut self, limit: Option<u64>) -> bool {
        let path = self.group.path();
        let text = limit.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
        let whole = if limit.is_some() { "1" } else { "0" };
        let is_written = self.memory.is_some() && write(&path.join("memory.max"), &text).is_ok();
        if is_written {
            // Linux before 4.19 has no such file, and kills a single process.
            let _ = write(&path.join("memory.oom.group"), whole);
            self.memory_limit = limit;
            self.settings = self.group.settings();
        }
        is_written
    }

    /// Freezes all that is in it, or lets it go on. False where that cannot be done.
    pub fn set_frozen(&self, frozen: bool) -> bool {
        write(&self.group.path().join("cgroup.freeze"), if frozen { "1" } else { "0" }).is_ok()
    }

    /// Whether what is started in it would stand still. A group that is made anew within a frozen one is
    /// frozen, too.
    pub fn is_frozen(&self) -> bool {
        self.group.condition() == Condition::Frozen
    }

    /// Urgent data on it means that [`is_frozen`](Self::is_frozen) may have changed.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.group.events()
    }

    /// What makes the group unfit for another attempt.
    fn harm(&mut self) -> Option<String> {
        match self.group.condition() {
            Condition::Gone => return Some("was removed".to_owned()),
            Condition::Frozen => return Some("was frozen (cgroup.freeze)".to_owned()),
            Condition::Usable if self.group.has_folders() => {
                return Some("held groups that poold has not made".to_owned());
            }
            Condition::Usable => {}
        }

        if self.looked_at.elapsed() < LOOK_AGAIN {
            return None;
        }
        self.looked_at = Instant::now();
        let settings = self.group.settings();
        let is_changed = |(path, text): &&(PathBuf, Vec<u8>)| {
            self.settings.iter().any(|(known, before)| known == path && before != text)
        };
        let changed = settings.iter().find(is_changed)?.0.file_name()?.to_string_lossy().into_owned();
        Some(format!("had been given other limits ({changed})"))
    }

    fn count_from_here(&mut self) {
        // Older kernels refuse: then a peak is only known to be the attempt's when it is higher than all
        // before.
        let is_set_back = self.memory.as_ref().is_some_and(|memory| memory.peak.write_at(b"0", 0).is_ok());
        self.before = Counters { is_set_back, ..self.read() };
    }

    /// The attempt's first process has ended, or is to be: kills what is left of it, as [`Sweeper::sweep`]
    /// does.
    pub fn sweep(&mut self, sweeper: &mut Sweeper) -> Vec<Reaped> {
        if !self.group.is_populated() {
            return sweeper.sweep();
        }

        self.is_used_up = true;
        self.group.kill();
        let reaped = sweeper.sweep();

        // The sweep has ended all that descends from us, or has waited for it in vain: in the group that is
        // as much in vain.
        let patience = if sweeper.has_stuck() { Duration::ZERO } else { sweeper.patience() };
        self.group.end(patience);
        reaped
    }

    /// What the attempt has used, put in the place of what its parents had heard; and whether the kernel has
    /// killed any of it because memory had run out. Nothing of the attempt is left.
    pub fn settle(&mut self, usage: &mut Usage) -> Option<Verdict> {
        let (before, after, limit) = (self.before, self.read(), self.memory_limit);
        let seconds = |after: u64, before: u64| after.saturating_sub(before) as f64 / 1e6;
        usage.user_s = usage.user_s.max(seconds(after.user_us, before.user_us));
        usage.sys_s = usage.sys_s.max(seconds(after.system_us, before.system_us));
        usage.memory_peak_bytes = peak_of(before, after);
        if self.is_used_up || self.group.is_altered() {
            self.renew();
        }
        (after.oom_kills > before.oom_kills).then_some(match limit {
            Some(limit) if after.ooms > before.ooms => Verdict::TooMuchMemory { limit },
            Some(_) | None => Verdict::OomKill,
        })
    }

    /// The CPU time that has been used in it so far, in microseconds.
    pub fn cpu_us(&self) -> u64 {
        let Counters { user_us, system_us, .. } = self.read();
        user_us + system_us
    }

    fn read(&self) -> Counters {
        let mut counters = Counters::default();
        for (name, value) in values(&read(&self.cpu)) {
            match name {
                "user_usec" => counters.user_us = value,
                "system_usec" => counters.system_us = value,
                _ => {}
            }
        }
        if let Some(memory) = &self.memory {
            counters.memory = read(&memory.current).trim_end().parse().unwrap_or(0);
            counters.peak = read(&memory.peak).trim_end().parse().ok();
            for (name, value) in values(&read(&memory.events)) {
                match name {
                    "oom" => counters.ooms = value,
                    "oom_kill" => counters.oom_kills = value,
                    _ => {}
                }
            }
        }
        counters
    }

    /// The group cannot take another attempt. The attempt has made groups of its own, and perhaps switched
    /// controllers on, so that nothing can be started here any more; or it has been killed (see
    /// [`is_usable`]); or somebody has removed the group.
    ///
    /// A group that holds a process which does not end cannot be made anew. Then a new one below it takes its
    /// place: whoever kills the slot's group still kills all that is in it. Where that cannot be had either,
    /// attempts move into the old one by themselves.
    fn renew(&mut self) {
        let path = self.group.path().to_owned();
        let below = path.join("again");
        let anew = |path: &Path| {
            remove(path).and_then(|()| std::fs::create_dir(path)).and_then(|()| Self::open(path))
        };
        match anew(&path).or_else(|_| anew(&below)) {
            Ok(renewed) => *self = renewed,
            Err(_) => self.by_clone = !self.is_frozen() && is_usable(self.group.folder()),
        }
    }
}

impl MemoryCounters {
    fn open(path: &Path) -> Option<Self> {
        let read = |name: &str| File::open(path.join(name)).ok();
        let peak = path.join("memory.peak");
        // Linux before 5.19 has none; before 6.12 it cannot be written.
        let peak = File::options().read(true).write(true).open(&peak).or_else(|_| File::open(&peak)).ok()?;
        Some(Self { current: read("memory.current")?, peak, events: read("memory.events")? })
    }
}

/// How much the attempt has added to what was in the group before it: file cache of earlier attempts stays
/// there. None where the peak may be an earlier one's.
fn peak_of(before: Counters, after: Counters) -> Option<u64> {
    let (old, new) = (before.peak?, after.peak?);
    (before.is_set_back || new > old).then(|| new.saturating_sub(before.memory))
}

/// `NAME VALUE`, a line each.
fn values(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
}

fn read(file: &File) -> String {
    let mut buffer = [0; 1024];
    let count = file.read_at(&mut buffer, 0).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_an_attempt_has_used_is_the_difference() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let state = |cpu: &str, current: &str, peak: &str, kills: &str| {
            put("cpu.stat", &format!("usage_usec 99\nuser_usec {cpu}\nsystem_usec 500000\nnr_periods 0\n"));
            put("memory.current", current);
            put("memory.peak", peak);
            put("memory.events", &format!("low 0\noom 7\noom_kill {kills}\noom_group_kill 0\n"));
        };
        put("cgroup.events", "populated 0\nfrozen 0\n");
        state("1000000", "4096\n", "4096\n", "3");
        let mut group = SlotGroup::open(folder.path()).unwrap();
        group.before = group.read();
        state("3500000", "8192\n", "1052672\n", "4");
        let mut usage = Usage { user_s: 1.0, sys_s: 0.25, ..Usage::default() };
        assert_eq!(group.settle(&mut usage), Some(Verdict::OomKill));
        assert_eq!(usage, Usage { user_s: 2.5, sys_s: 0.25, memory_peak_bytes: Some(1_048_576), ..usage });
        group.before = group.read();
        assert_eq!(group.settle(&mut usage), None);
    }

    #[test]
    fn a_limit_of_memory_is_one_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let get = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        put("cpu.stat", "");
        put("cgroup.events", "populated 0\nfrozen 0\n");
        let mut group = SlotGroup::open(folder.path()).unwrap();
        assert!(!group.limit_memory(Some(4096)), "there is no controller");

        for name in ["memory.current", "memory.peak", "memory.max", "memory.oom.group"] {
            put(name, "");
        }
        put("memory.events", "oom 1\noom_kill 1\n");
        let mut group = SlotGroup::open(folder.path()).unwrap();
        group.looked_at = Instant::now().checked_sub(LOOK_AGAIN).unwrap();
        assert!(group.limit_memory(Some(4096)));
        assert!(get("memory.max").starts_with("4096") && get("memory.oom.group").starts_with('1'));
        assert_eq!(group.harm(), None, "what we have written is no harm");

        // Beyond its limit, which the kernel counts as `oom`; without that, memory has run out elsewhere.
        group.before = group.read();
        put("memory.events", "oom 2\noom_kill 3\n");
        assert_eq!(group.settle(&mut Usage::default()), Some(Verdict::TooMuchMemory { limit: 4096 }));
        group.before = group.read();
        put("memory.events", "oom 2\noom_kill 4\n");
        assert_eq!(group.settle(&mut Usage::default()), Some(Verdict::OomKill));

        assert!(!group.limit_memory(None));
        assert!(get("memory.max").starts_with("max") && get("memory.oom.group").starts_with('0'));
    }

    #[test]
    fn a_peak_that_may_be_an_earlier_attempts_is_not_told() {
        let counters = |peak, memory| Counters { peak, memory, ..Counters::default() };
        let set_back = Counters { is_set_back: true, ..counters(Some(10), 10) };
        assert_eq!(
            peak_of(counters(Some(100), 10), counters(Some(100), 20)),
            None,
            "not set back, not exceeded"
        );
        assert_eq!(
            peak_of(counters(Some(100), 10), counters(Some(150), 20)),
            Some(140),
            "not set back, exceeded"
        );
        assert_eq!(peak_of(set_back, counters(Some(60), 20)), Some(50), "set back");
        assert_eq!(peak_of(counters(None, 0), counters(None, 0)), None, "no controller");
    }
}
