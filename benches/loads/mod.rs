//! The loads for the ring and other designs in the bake-off, and in the tests that check their counts.
//!
//! | module | what |
//! |---|---|
//! | [`traffic`] | frames as a server sends them, and reads of them |
//! | [`digest`] | a consumer that reads every byte |
//! | [`hop`] | one consumer: alternating, two tasks, two threads |
//! | [`fan_out`] | 1,000 subscribers of which one sleeps |
//! | [`machine`] | cores and processor time |

pub mod digest;
pub mod fan_out;
pub mod hop;
pub mod machine;
pub mod traffic;

use std::time::{Duration, Instant};

/// The cost of a measured section.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub wall: Duration,
    /// The processor time of the whole process. Zero if it cannot be measured.
    pub cpu: Duration,
    /// Notifications that were delivered.
    pub delivered: u64,
}

/// The beginning of a measured section.
#[derive(Debug)]
pub struct Begin {
    wall: Instant,
    cpu: Duration,
}

impl Begin {
    pub fn now() -> Self {
        Self { cpu: machine::cpu_time(), wall: Instant::now() }
    }

    pub fn end(&self, delivered: u64) -> Sample {
        let wall = self.wall.elapsed();
        Sample { wall, cpu: machine::cpu_time().saturating_sub(self.cpu), delivered }
    }
}

impl Sample {
    /// Returns nanoseconds per delivered notification, of elapsed time and of processor time.
    pub fn nanos(&self) -> (f64, f64) {
        let per = |time: Duration| time.as_secs_f64() * 1e9 / self.delivered.max(1) as f64;
        (per(self.wall), per(self.cpu))
    }
}
