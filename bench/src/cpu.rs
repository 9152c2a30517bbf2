//! What the operating system says of a process.

use std::fs;

use anyhow::{Context, Result};

/// CPU time of a process, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    pub user_us: f64,
    pub system_us: f64,
}

impl CpuTime {
    /// All threads of a process together, to the clock tick (10 ms on most machines).
    pub fn of(pid: u32) -> Result<CpuTime> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name may hold spaces and is in parentheses.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has another form")?;
        let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
        let mut next = || fields.next().context("/proc/PID/stat is too short")?.context("/proc/PID/stat");
        // SAFETY: sysconf only reads a number.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        Ok(CpuTime { user_us: next()? * 1e6 / ticks, system_us: next()? * 1e6 / ticks })
    }

    pub fn since(self, before: CpuTime) -> CpuTime {
        CpuTime { user_us: self.user_us - before.user_us, system_us: self.system_us - before.system_us }
    }
}

/// The proportional set size of a process, in bytes: what it keeps in memory, shared pages by their share.
pub fn pss_bytes(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("smaps_rollup has no Pss")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0)
}

/// The resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub now: u64,
    /// At most since it began, or since [`reset_peak`].
    pub most: u64,
}

pub fn resident(pid: u32) -> Result<Resident> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let bytes = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok(Resident { now: bytes("VmRSS:")?, most: bytes("VmHWM:")? })
}

/// From now on the most that was resident is counted anew.
pub fn reset_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of the memory can't be reset")
}

/// Lets every other thread go before this one.
pub fn give_way() -> Result<()> {
    const LAST: i32 = 19;
    // SAFETY: setpriority only takes numbers; on Linux 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LAST) };
    anyhow::ensure!(result == 0, "this thread can't be made to give way");
    Ok(())
}

/// Keeps this process, and those that it starts afterwards, on one core.
pub fn pin(core: usize) -> Result<()> {
    // SAFETY: an all-zero set is a valid empty one, and the pointer is to it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    anyhow::ensure!(result == 0, "this process can't be kept on core {core}");
    Ok(())
}

/// Lets the process open as many descriptors as it is allowed to.
pub fn raise_descriptors() {
    // SAFETY: the pointers are to a live, initialised structure.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
