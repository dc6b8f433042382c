//! Two network namespaces that are joined by a virtual cable: a server in one, clients in the other.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Addresses for documentation (RFC 5737). They exist in the two namespaces only, so that networks of several runs can have the
/// same ones.
const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The name of both ends of the cable, each in its own namespace.
const INTERFACE: &str = "bell";

/// The path of root may lack the directories with `ip`.
const IP: &str = r#"PATH=$PATH:/usr/sbin:/sbin; exec ip "$@""#;

/// Deletes the namespaces when its input ends, in whatever way the process ends that holds the other end.
const GUARD: &str =
    r#"PATH=$PATH:/usr/sbin:/sbin; read -r end; for name; do ip netns delete "$name"; done"#;

/// A failure of the network. Neither side is notified of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server's end of the cable is down.
    LinkDown,
    /// The client's packets arrive, the server's packets are lost.
    AnswersLost,
    /// The server's packets arrive, the client's packets are lost.
    RequestsLost,
    AllLost,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] =
        [Self::LinkDown, Self::AnswersLost, Self::RequestsLost, Self::AllLost];

    /// True if the server still receives the client's packets.
    pub(crate) fn reaches_the_server(self) -> bool {
        self == Self::AnswersLost
    }

    fn loses_answers(self) -> bool {
        matches!(self, Self::AnswersLost | Self::AllLost)
    }

    fn loses_requests(self) -> bool {
        matches!(self, Self::RequestsLost | Self::AllLost)
    }
}

/// The namespaces. They are deleted when this is dropped, and also when the process ends in any way.
pub(crate) struct Network {
    server: String,
    client: String,
    guard: Child,
}

impl Network {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("pgbell-{}-{number}-{side}", process::id());
        let (server, client) = (name("server"), name("client"));
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "pgbell-network", &server, &client]).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().unwrap();
        // From here on the guard deletes the namespaces, whatever fails.
        let network = Self { server, client, guard };
        for name in [&network.server, &network.client] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let (server, client) = (&network.server, &network.client);
        ip(&[
            "-n", server, "link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE,
            "netns", client,
        ]);
        for (name, address) in [(server, SERVER_ADDRESS), (client, CLIENT_ADDRESS)] {
            let address = format!("{address}/30");
            ip(&["-n", name, "address", "add", &address, "dev", INTERFACE]);
            ip(&["-n", name, "link", "set", INTERFACE, "up"]);
            // Packets without a route back must be accepted: only one direction is cut.
            inside(name, || {
                for interface in ["all", INTERFACE] {
                    let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
                    fs::write(path, "0").unwrap();
                }
            });
        }
        network
    }

    /// The address of a server that runs in [`on_server`](Self::on_server), for `listen_addresses`.
    pub(crate) fn addresses() -> String {
        format!("127.0.0.1,{SERVER_ADDRESS}")
    }

    /// The host to which a client connects.
    pub(crate) fn host() -> String {
        SERVER_ADDRESS.to_string()
    }

    /// Runs a function on the side of the server, with all threads and processes that it starts.
    pub(crate) fn on_server<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        inside(&self.server, run)
    }

    /// The same on the side of the client.
    pub(crate) fn on_client<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        inside(&self.client, run)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        if fault == Fault::LinkDown {
            ip(&["-n", &self.server, "link", "set", INTERFACE, "down"]);
        }
        self.blackholes("add", fault);
    }

    pub(crate) fn repair(&self, fault: Fault) {
        if fault == Fault::LinkDown {
            ip(&["-n", &self.server, "link", "set", INTERFACE, "up"]);
        }
        self.blackholes("delete", fault);
    }

    /// A route to a single address takes precedence over the route of the cable.
    fn blackholes(&self, action: &str, fault: Fault) {
        if fault.loses_answers() {
            let away = CLIENT_ADDRESS.to_string();
            ip(&["-n", &self.server, "route", action, "blackhole", &away]);
        }
        if fault.loses_requests() {
            let away = SERVER_ADDRESS.to_string();
            ip(&["-n", &self.client, "route", action, "blackhole", &away]);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Uses a thread of its own, since a thread cannot leave a namespace. Its child threads and processes inherit it.
fn inside<T: Send>(name: &str, run: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    thread::scope(|scope| {
        let entered = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ip(arguments: &[&str]) {
    let mut command = Command::new("/bin/sh");
    let output =
        command.args(["-c", IP, "ip"]).args(arguments).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {} (this needs root and iproute2)",
        arguments.join(" "),
        error.trim()
    );
}

/// Checks the network itself: otherwise a test of a dead network would prove nothing.
#[test]
fn each_fault_cuts_its_direction_and_no_other() {
    use std::cell::Cell;
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    let network = Network::new();
    let bound = |address: Ipv4Addr| {
        let socket = UdpSocket::bind((address, 1)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    };
    let server = network.on_server(|| bound(SERVER_ADDRESS));
    let client = network.on_client(|| bound(CLIENT_ADDRESS));
    let number = Cell::new(0_u8);
    let arrives = |from: &UdpSocket, to: &UdpSocket| {
        number.set(number.get() + 1);
        // A blackhole on the own side refuses it at once.
        if from.send_to(&[number.get()], to.local_addr().unwrap()).is_err() {
            return false;
        }
        let mut received = [0];
        loop {
            match to.recv(&mut received) {
                Ok(_) if received == [number.get()] => return true,
                // One packet that was late.
                Ok(_) => {}
                Err(cause) => {
                    assert_eq!(cause.kind(), ErrorKind::WouldBlock, "{cause}");
                    return false;
                }
            }
        }
    };
    let both = || (arrives(&client, &server), arrives(&server, &client));
    let well = |when: &str| {
        // The neighbours have to find each other first.
        let deadline = Instant::now() + Duration::from_secs(20);
        while both() != (true, true) {
            assert!(Instant::now() < deadline, "dead {when}");
        }
    };
    well("from the start");
    for fault in Fault::ALL {
        network.fail(fault);
        let expected = match fault {
            Fault::LinkDown | Fault::AllLost => (false, false),
            Fault::AnswersLost => (true, false),
            Fault::RequestsLost => (false, true),
        };
        assert_eq!(both(), expected, "{fault:?}");
        network.repair(fault);
        well(&format!("after {fault:?}"));
    }
}
