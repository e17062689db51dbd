//! Without a network: in a network namespace that has nothing but its own loopback, what is here runs and is served, and
//! nobody tries to reach anything else. The kernel's counters of the namespace are the witness.
#![cfg(target_os = "linux")]

mod http;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::serve;
use serde_json::json;

/// Runs `inside` in a namespace of its own. Where none may be made, it is left out with a note; in CI, as root, that is
/// a failure.
#[test]
fn without_a_network_what_is_here_runs_and_is_served() {
    let this = std::env::current_exe().expect("a program");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).arg(this).args(["inside", "--exact", "--ignored", "--nocapture"]);
    let output = command.stdin(Stdio::null()).output().expect("unshare runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if !output.status.success() && said.starts_with("unshare:") {
        let root = fs::metadata("/proc/self").expect("a process").uid() == 0;
        assert!(!(root && std::env::var_os("CI").is_some()), "{said}");
        eprintln!("left out: this system makes no namespaces: {said}");
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "runs in a namespace, by the test above"]
fn inside() {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
    assert!(up.success(), "the loopback does not come up");
    // What nobody else may do is seen.
    let far = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    assert!(TcpStream::connect_timeout(&far, Duration::from_secs(1)).is_err(), "there is a network");
    let begun = Counters::read();
    assert!(begun.unreachable > 0, "the kernel does not count what cannot be reached");

    let mut run = Command::new(env!("CARGO_BIN_EXE_firelight"));
    run.args(["run", "demo", "--offline", "-n", "4", "Hello"]).env("NODEVICE_SELECT", "1").stdin(Stdio::null());
    let output = run.output().expect("it runs");
    assert!(output.status.success() && !output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Counters::read(), begun, "running opened a connection");

    let server = serve(&["demo"]);
    let body = json!({ "prompt": "Hello", "max_tokens": 4 });
    const REQUESTS: u64 = 5;
    for _ in 0..REQUESTS {
        let reply = server.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let opened = begun.opened + REQUESTS;
    assert_eq!(Counters::read(), Counters { opened, ..begun }, "serving opened more connections than it was asked by");
}

/// What the namespace's kernel has counted.
#[derive(Debug, PartialEq)]
struct Counters {
    /// Connections that were opened.
    opened: u64,
    /// Packets and connections for which there was no way.
    unreachable: u64,
    /// UDP packets that were sent.
    datagrams: u64,
}

impl Counters {
    fn read() -> Self {
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
