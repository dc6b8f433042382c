//! [`OwnedInfo`]: the time and the session of a run, as a notification stores them.

use std::time::{Duration, SystemTime};

use super::ReceiveInfo;

/// A [`ReceiveInfo`] for owned notifications. It is converted once for a run, not for each notification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnedInfo {
    pub(super) received_at: UnixNanos,
    pub(super) epoch: u32,
}

impl From<ReceiveInfo> for OwnedInfo {
    fn from(info: ReceiveInfo) -> Self {
        Self { received_at: info.received_at.into(), epoch: info.epoch }
    }
}

/// A time of the wall clock, in nanoseconds after 1970. It is within 292 years of 1970: an earlier or later time is replaced by the
/// nearest one. Unlike a [`SystemTime`], which has two parts of different sizes, it is moved as one.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnixNanos(i64);

impl From<SystemTime> for UnixNanos {
    fn from(time: SystemTime) -> Self {
        let nanos = |distance: Duration| i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
        Self(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        })
    }
}

impl From<UnixNanos> for SystemTime {
    fn from(UnixNanos(nanos): UnixNanos) -> Self {
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        let time = match nanos {
            0.. => Self::UNIX_EPOCH.checked_add(distance),
            _ => Self::UNIX_EPOCH.checked_sub(distance),
        };
        time.unwrap_or(Self::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_stored_to_the_nanosecond_and_one_that_is_far_from_1970_as_the_nearest() {
        let stored = |time: SystemTime| SystemTime::from(UnixNanos::from(time));
        let epoch = SystemTime::UNIX_EPOCH;
        for distance in [0, 100, 999_999_900, 1_796_000_000_123_456_700] {
            let distance = Duration::from_nanos(distance);
            for time in [epoch + distance, epoch - distance] {
                assert_eq!(stored(time), time);
            }
        }
        let most = Duration::from_nanos(i64::MAX.unsigned_abs());
        let far = Duration::from_secs(300 * 366 * 24 * 60 * 60);
        assert_eq!((stored(epoch + far), stored(epoch - far)), (epoch + most, epoch - most));
    }
}
