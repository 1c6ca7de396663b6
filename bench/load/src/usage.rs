//! What a process and its children have used, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

/// `/proc` counts time in hundredths of a second on every Linux there is (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Usage {
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

/// Processor time of processes, and of children of theirs that have ended.
pub(crate) fn cpu(pids: &[u32]) -> Usage {
    let mut usage = Usage::default();
    for &pid in pids {
        let Some(fields) = stat(pid) else { continue };
        let ticks = |at: usize| -> u32 { fields.get(at).and_then(|field| field.parse().ok()).unwrap_or_default() };
        // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), of which the first two are cut off.
        usage.user += TICK * (ticks(11) + ticks(13));
        usage.system += TICK * (ticks(12) + ticks(14));
    }
    usage
}

/// Resident bytes of a process and of all below it.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let mut bytes = 0;
    for pid in tree(pid)? {
        // Exact, unlike `statm`, which lags behind.
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
        let kib: u64 = rss.trim().trim_end_matches("kB").trim().parse().map_err(io::Error::other)?;
        bytes += kib * 1024;
    }
    Ok(bytes)
}

/// Makes the peak what is resident now (proc(5), `clear_refs`), and says how much that is.
pub(crate) fn forget_peak(pid: u32) -> io::Result<u64> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    peak(pid)
}

/// The most that was resident at a time since the process began, or the peak was forgotten. It lags behind by less
/// than a megabyte, and children do not count.
pub(crate) fn peak(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().map_err(io::Error::other)?;
    Ok(kib * 1024)
}

/// A process and all below it.
pub(crate) fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let parent = stat(pid).and_then(|fields| fields.get(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        all.extend(children.remove(&pid).unwrap_or_default());
        at += 1;
    }
    Ok(all)
}

/// `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
