//! What goes through the ring and its rivals in the bake-off, and in the tests that prove its counts.
//!
//! | module | what |
//! |---|---|
//! | [`traffic`] | frames as a server sends them, and reads of them |
//! | [`digest`] | who looks at every byte |
//! | [`hop`] | one consumer: alternating, two tasks, two threads |
//! | [`fan_out`] | 1,000 subscribers of which one sleeps |
//! | [`machine`] | cores and processor time |

pub mod digest;
pub mod fan_out;
pub mod hop;
pub mod machine;
pub mod traffic;

use std::time::{Duration, Instant};

/// What a measured section took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub wall: Duration,
    /// Of the whole process. Zero where it cannot be told.
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
    /// Nanoseconds per delivered notification, of the wall and of the processors.
    pub fn nanos(&self) -> (f64, f64) {
        let per = |time: Duration| time.as_secs_f64() * 1e9 / self.delivered.max(1) as f64;
        (per(self.wall), per(self.cpu))
    }
}
