//! What the benchmark asks of Linux: pinning, the clock of another process's CPU
//! time, peak memory, free ports.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const START_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_EVERY: Duration = Duration::from_micros(200);

/// Which CPUs the collector and the load run on.
#[derive(Clone, Copy)]
pub struct Cpus {
    collector: libc::cpu_set_t,
    load: libc::cpu_set_t,
}

impl Cpus {
    /// The first allowed CPU is the collector's. With only one the two share it.
    pub fn divide() -> Result<Self> {
        // SAFETY: an all-zero set is a valid, empty one; the call fills at most its size.
        let (mut allowed, mut collector, mut load): (libc::cpu_set_t, libc::cpu_set_t, libc::cpu_set_t) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: as above.
        if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut allowed) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot read the allowed CPUs");
        }
        // SAFETY: every number is below CPU_SETSIZE.
        let mut cpus = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) });
        let first = cpus.next().context("no CPU is allowed")?;
        // SAFETY: as above.
        unsafe { libc::CPU_SET(first, &mut collector) };
        for cpu in cpus {
            // SAFETY: as above.
            unsafe { libc::CPU_SET(cpu, &mut load) };
        }
        // SAFETY: reads an initialised set.
        if unsafe { libc::CPU_COUNT(&load) } == 0 {
            eprintln!("only one CPU: the load runs on the collector's, which slows both");
            load = collector;
        }
        Ok(Self { collector, load })
    }

    /// Moves the calling thread, and the threads that it starts, to the load's CPUs.
    pub fn pin_load(&self) -> io::Result<()> {
        pin(&self.load)
    }
}

fn pin(cpus: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: reads an initialised set of the size given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), cpus) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A collector's process, pinned to its CPU. Dropping it kills it.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Its output goes to a file, of which a failed start shows the end.
    ///
    /// Call it from the main thread: the child dies with the thread that started
    /// it, so that none is left behind when the benchmark itself is killed.
    pub fn start(command: &mut Command, cpus: &Cpus, output: &Path) -> Result<Self> {
        let file = File::create(output).context("cannot create the file for a collector's output")?;
        let cpus = *cpus;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // SAFETY: between fork and exec only two system calls are made; nothing allocates or locks.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                pin(&cpus.collector)
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
        Ok(Self { child, output: output.to_owned() })
    }

    /// Waits until the port accepts.
    pub fn wait_until_accepting(&mut self, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} before its port accepted: {}", self.end_of_output());
            }
            if started.elapsed() > START_DEADLINE {
                bail!("its port did not accept within {START_DEADLINE:?}: {}", self.end_of_output());
            }
            thread::sleep(CONNECT_EVERY);
        }
        Ok(())
    }

    /// The CPU time of all its threads, ended ones included, to the nanosecond.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut clock: libc::clockid_t = 0;
        // SAFETY: both calls only write to the place given.
        let error = unsafe { libc::clock_getcpuclockid(self.child.id() as libc::pid_t, &mut clock) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error)).context("no clock of the collector's CPU time");
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: as above.
        if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot read the collector's CPU time");
        }
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// The most memory that was resident at any time, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).context("the collector has ended")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .context("no VmHWM in the collector's status")?;
        Ok(kib * 1024)
    }

    pub fn end_of_output(&self) -> String {
        const LINES: usize = 5;
        let text = String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join(" / ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that nothing listens on.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The processor's name and the number of its CPUs.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> =
        text.lines().filter(|line| line.starts_with("model name")).filter_map(|line| line.split(": ").nth(1)).collect();
    format!("{} CPUs, {}", names.len(), names.first().unwrap_or(&"unnamed"))
}
