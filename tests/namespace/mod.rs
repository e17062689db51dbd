//! A network namespace with only a loopback interface, for tests that nothing opens other connections. The kernel's
//! counters of the namespace show every attempt.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs an ignored test of this program in a new namespace. Where namespaces are not permitted, it is skipped with a
/// note; in CI as root, this is a failure.
pub fn run(test: &str) {
    let this = std::env::current_exe().expect("a program");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).arg(this).args([test, "--exact", "--ignored", "--nocapture"]);
    let output = command.stdin(Stdio::null()).output().expect("unshare runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if !output.status.success() && said.starts_with("unshare:") {
        let root = fs::metadata("/proc/self").expect("a process").uid() == 0;
        assert!(!(root && std::env::var_os("CI").is_some()), "{said}");
        eprintln!("skipped: this system does not permit namespaces: {said}");
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Brings the loopback interface up, checks that the kernel counts connection attempts, and returns the counters.
pub fn begin() -> Counters {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
    assert!(up.success(), "the loopback interface does not come up");
    // A connection attempt must fail and be counted.
    let far = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    assert!(TcpStream::connect_timeout(&far, Duration::from_secs(1)).is_err(), "there is a network");
    let begun = Counters::read();
    assert!(begun.unreachable > 0, "the kernel does not count unreachable destinations");
    begun
}

/// The kernel's counters of the namespace.
#[derive(Debug, PartialEq)]
pub struct Counters {
    /// Connections that were opened.
    pub opened: u64,
    /// Packets and connections without a route.
    pub unreachable: u64,
    /// UDP packets that were sent.
    pub datagrams: u64,
}

impl Counters {
    /// The current counters.
    pub fn read() -> Self {
        let text = fs::read_to_string("/proc/self/net/snmp").expect("the kernel's counters");
        // A line of names, then one of numbers.
        let of = |table: &str, name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(table)?.strip_prefix(": "));
            let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
            let at = names.split(' ').position(|n| n == name).expect("a counter");
            numbers.split(' ').nth(at).and_then(|n| n.parse().ok()).expect("a number")
        };
        Counters {
            opened: of("Tcp", "ActiveOpens"),
            unreachable: of("Ip", "OutNoRoutes"),
            datagrams: of("Udp", "OutDatagrams"),
        }
    }
}
