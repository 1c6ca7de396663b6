//! The real binary as a process of its own: what it says, what it holds, and what it costs.

use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
/// Nothing that is waited for takes as long as this, on a slow machine either.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const API_KEY: &str = "a key for the tests of hostile peers";
/// What goes under `[limits]` where one machine stands for many.
pub(crate) const CROWD: &str = "
    connections_per_address = 1_000_000
    unauthenticated_per_address = 1_000_000
    waiting = 1_000_000
    waiting_per_address = 1_000_000
    lingering_per_address = 1_000_000
    address_connects_per_s = 0
    address_refusals_per_s = 0
    failed_tokens = 0
";
/// As many read buffers as there are threads: the same on every machine.
const THREADS: &str = "2";

/// A server that is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) at: SocketAddr,
    api: SocketAddr,
    config: PathBuf,
    log: Arc<Log>,
    descriptors: usize,
}

#[derive(Default)]
struct Log {
    endings: Mutex<Vec<Value>>,
    more: Condvar,
    /// What a server should never have to say, whatever its peers do.
    alarms: Mutex<Vec<String>>,
}

impl Server {
    /// A server in production mode with one route, `/ws`: `limits` are the lines below `[limits]`, `route` those below
    /// `[[route]]`.
    pub(crate) fn start(limits: &str, route: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("hostile-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let text = format!(
            "listen = '127.0.0.1:0'\n[api]\nlisten = '127.0.0.2:0'\n[token]\nissuer = 'nobody'\n[log]\nformat = 'json'\n\
             [limits]\n{limits}\n[[route]]\npath = '/ws'\nrooms = {{ history = {{ entries = 0 }} }}\n{route}\n"
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_saywhy"))
            .args(["serve", "--config"])
            .arg(&config)
            .env_clear()
            .env("TOKIO_WORKER_THREADS", THREADS)
            .env("SAYWHY_TOKEN_SECRET", "nobody signs a token in the tests of hostile peers")
            .env("SAYWHY_API_KEY", API_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Log>::default();
        listen(&mut child, Arc::clone(&log));
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut address = |key: &str| {
            let line = said
                .find(|line| line.starts_with(key))
                .unwrap_or_else(|| panic!("the server says no {key}: {:?}", log.alarms));
            line.split('/').nth(2).unwrap().parse().unwrap()
        };
        let (at, api) = (address("route "), address("api "));
        assert!(said.any(|line| line == "ready"));
        let descriptors = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
        Self { child, at, api, config, log, descriptors }
    }

    /// The endings, as soon as there are `n`.
    pub(crate) fn endings(&self, n: usize) -> Vec<Value> {
        let endings = self.log.endings.lock().unwrap();
        let (endings, timeout) = self.log.more.wait_timeout_while(endings, SOON, |endings| endings.len() < n).unwrap();
        assert!(!timeout.timed_out(), "{} endings of {n}", endings.len());
        endings.clone()
    }

    /// How many endings there are by now.
    pub(crate) fn ended(&self) -> usize {
        self.log.endings.lock().unwrap().len()
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::of(self.child.id())
    }

    /// Files and sockets that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// As many as were open when it began, when nobody was there.
    pub(crate) fn idle_descriptors(&self) -> usize {
        self.descriptors
    }

    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    /// Waits until it has read all that was sent to it: nothing is left in the queues of its sockets.
    pub(crate) fn has_read(&self) {
        let local = format!("0100007F:{:04X}", self.at.port());
        until("everything is read", || {
            let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
            sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).all(|socket| {
                // Local address, remote address, state, and what is not sent and not read yet.
                socket[1] != local || socket[3] == "0A" || socket[4].ends_with(":00000000")
            })
        });
        // What it read last it has decoded when it answers another.
        self.api("GET", "/connections", "");
    }

    /// Does something while the server does not run: it finds all of it at once.
    pub(crate) fn stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        let signal = |name: &str| {
            let status = Command::new("kill").arg(name).arg(self.child.id().to_string()).status();
            assert!(status.unwrap().success());
        };
        signal("-STOP");
        let done = act();
        signal("-CONT");
        done
    }

    /// From here on the peak is what is reached from now on.
    pub(crate) fn forget_peak(&self) {
        forget_peak(self.child.id());
    }

    /// Does what an operator may do; the answer's body.
    pub(crate) fn api(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.http(method, &format!("/api/v1{path}"), body);
        if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
    }

    /// The number after a metric's name and labels, all of them added.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let all = self.http("GET", "/metrics", "");
        let lines = all.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    fn http(&self, method: &str, path: &str, body: &str) -> String {
        let mut tcp = TcpStream::connect(self.api).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {API_KEY}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n"
        );
        tcp.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        body.to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
        if !thread::panicking() {
            let alarms = self.log.alarms.lock().unwrap();
            assert!(alarms.is_empty(), "{alarms:#?}");
        }
    }
}

/// Keeps reading the log: a pipe that nobody empties would stop the server.
fn listen(child: &mut Child, log: Arc<Log>) {
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            match serde_json::from_str::<Value>(&line) {
                Ok(line) if line["target"] == "saywhy::ending" => {
                    log.endings.lock().unwrap().push(line);
                    log.more.notify_all();
                }
                Ok(line) if line["level"] != "ERROR" => {}
                _ => log.alarms.lock().unwrap().push(line),
            }
        }
    });
}

/// What a process holds, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// In memory now.
    pub(crate) resident: u64,
    /// The most that was.
    pub(crate) peak: u64,
    /// What it may write to, in memory or not: a buffer that is reserved and not yet used is seen here only.
    pub(crate) reserved: u64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * KIB
        };
        Self { resident: kib("VmRSS:"), peak: kib("VmHWM:"), reserved: kib("VmData:") }
    }
}

/// Makes `VmHWM` what is resident now (proc(5), `clear_refs`).
pub(crate) fn forget_peak(process: u32) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

/// What a process has computed so far.
pub(crate) fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name may hold anything, but ends with the last parenthesis. Then come the state and its successors.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A tick is 10 ms for every program, whatever the kernel itself counts in.
    Duration::from_millis(ticks * 10)
}

/// Waits until `done`, and fails when it does not come to be.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        thread::yield_now();
    }
}
