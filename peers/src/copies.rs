//! The number of copies per byte, measured with valgrind: all calls of `memcpy` and related functions in the client's
//! process. It does not include copies by the kernel, and decryption into another buffer.

use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::child::Child;
use crate::contestant::Contestant;
use crate::cores::Cores;
use crate::outcome::Outcome;
use crate::replay::WRITE_BYTES;
use crate::shape::Shape;
use crate::source::{Source, options};
use crate::tally::Report;
use crate::tls::Identity;

/// The contestants of this measurement.
const CONTESTANTS: [Contestant; 8] = [
    Contestant::RawTouch,
    Contestant::RawRustls,
    Contestant::PgbellInline,
    Contestant::PgbellListener1t,
    Contestant::PgbellRecv,
    Contestant::Libpq,
    Contestant::TokioPostgres,
    Contestant::Sqlx,
];

/// The difference of two runs in bytes of the wire. The login and the growth of buffers are the same in both.
const BYTES: u64 = 16 * 1024 * 1024;

/// The copies of one contestant, in bytes copied per byte of the wire before TLS.
#[derive(Debug, Serialize)]
pub(crate) struct Copied {
    pub(crate) contestant: Contestant,
    pub(crate) size: usize,
    /// None for contestants that only use TLS.
    pub(crate) clear: Option<f64>,
    pub(crate) tls: Option<f64>,
    /// The reason if there is no result.
    pub(crate) void: Option<String>,
}

impl Copied {
    /// Returns the copies that TLS adds.
    pub(crate) fn more(&self) -> Option<f64> {
        Some(self.tls? - self.clear?)
    }
}

pub(crate) fn run(
    sizes: &[usize],
    admits: impl Fn(Contestant) -> bool,
    cores: &Cores,
) -> Vec<Copied> {
    let mut all = Vec::new();
    for size in sizes {
        for contestant in CONTESTANTS.into_iter().filter(|one| admits(*one)) {
            let measured = |tls| copies(contestant, *size, tls, cores);
            let clear = match contestant {
                Contestant::RawRustls => Ok(None),
                _ => measured(false).map(Some),
            };
            let tls = measured(true);
            let void = clear.as_ref().err().or(tls.as_ref().err()).map(ToString::to_string);
            let (clear, tls) = (clear.ok().flatten(), tls.ok());
            all.push(Copied { contestant, size: *size, clear, tls, void });
        }
    }
    all
}

fn copies(contestant: Contestant, size: usize, tls: bool, cores: &Cores) -> Outcome<f64> {
    let shape = Shape { size, ..Shape::MAIN };
    let count = BYTES / size as u64;
    let less = bytes_copied(contestant, shape, count, tls, cores)?;
    let more = bytes_copied(contestant, shape, 2 * count, tls, cores)?;
    Ok((more as f64 - less as f64) / (count * size as u64) as f64)
}

fn bytes_copied(
    contestant: Contestant,
    shape: Shape,
    count: u64,
    tls: bool,
    cores: &Cores,
) -> Outcome<u64> {
    let identity = if tls { Some(Identity::new()?) } else { None };
    let mut source = Source::replay(shape, WRITE_BYTES, &cores.server, identity)?;
    let log = std::env::temp_dir().join(format!("peers-copies-{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=dhat", "--mode=copy", "--dhat-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", log.display()));
    valgrind.arg(std::env::current_exe()?).args(["child", &contestant.name()]);
    valgrind.args(source.address()?).args(["--count", &count.to_string()]);
    valgrind.args(options(shape, cores.client(1)));
    let started = Child::spawn(valgrind);
    let mut child = started.map_err(|error| format!("valgrind: {error}"))?.watched();
    child.wait_until_ready()?;
    source.go(count)?;
    let report: Report = child.value()?;
    let sent = source.sent()?;
    child.finish()?;
    let printed = fs::read_to_string(&log)?;
    fs::remove_file(&log)?;
    let is_right = report.checksum.is_none_or(|checksum| checksum == sent.checksum);
    if report.notifications != count || sent.count != count || !is_right {
        return Err(format!("{count} were sent, {} received", report.notifications).into());
    }
    total(&printed).ok_or_else(|| format!("valgrind printed no total: {printed}").into())
}

/// Parses `==1== Total:     1,234 bytes in 5 blocks`.
fn total(printed: &str) -> Option<u64> {
    let (_, rest) = printed.split_once("Total:")?;
    let (number, _) = rest.split_once(" bytes")?;
    number.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_of_valgrind_is_parsed_with_its_commas() {
        let printed =
            "==7== DHAT\n==7== \n==7== Total:     20,811,326 bytes in 2,718 blocks\n==7== \n";
        assert_eq!(super::total(printed), Some(20_811_326));
        assert_eq!(super::total("==7== \n"), None);
    }
}
