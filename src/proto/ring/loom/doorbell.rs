//! Models of the doorbell.

use loom::sync::Arc;
use loom::thread;

use super::super::doorbell::{Doorbell, Ringer, Rung, doorbell};
use super::asleep;

/// The value of a mark: the number of marks that were merged into it.
fn mark(ringer: &mut Ringer<u64>) {
    let position = ringer.position();
    ringer.mark_at(position, 1, |last, more, _| *last += more);
}

/// Returns the numbers of notifications and of marks until the end.
fn drain_asleep(mut doorbell: Doorbell<u64>) -> (u64, u64) {
    let mut sum = (0, 0);
    loop {
        match asleep(|cx| doorbell.poll_take(cx)) {
            Rung::Arrived { notified, mark } => {
                assert!(notified > 0 || mark.is_some(), "a wake-up for nothing");
                sum.0 += notified;
                sum.1 += mark.unwrap_or_default();
            }
            Rung::Nothing => panic!("it returned before something happened"),
            Rung::Closed => return sum,
        }
    }
}

#[test]
fn every_notification_and_every_mark_is_reported_once() {
    loom::model(|| {
        let (mut ringer, doorbell) = doorbell();
        let writer = thread::spawn(move || {
            ringer.count(1);
            ringer.publish();
            mark(&mut ringer);
            ringer.count(2);
            mark(&mut ringer);
            ringer.publish();
        });
        assert_eq!(drain_asleep(doorbell), (3, 2));
        writer.join().unwrap();
    });
}

/// The doorbell sleeps again while the previous wake-up is in progress.
#[test]
fn a_doorbell_is_woken_every_time() {
    loom::model(|| {
        let (mut ringer, mut doorbell) = doorbell::<u64>();
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                ringer.count(1);
                ringer.publish();
            }
            ringer
        });
        let mut notified = 0;
        while notified < 2 {
            match asleep(|cx| doorbell.poll_take(cx)) {
                Rung::Arrived { notified: more, mark: None } => notified += more,
                other => panic!("{other:?}"),
            }
        }
        drop(writer.join().unwrap());
        assert_eq!(doorbell.take(), Rung::Closed);
    });
}

/// What is held back when the ringer is dropped is not shown.
#[test]
fn nothing_that_is_held_back_is_shown() {
    loom::model(|| {
        let (mut ringer, doorbell) = doorbell();
        let writer = thread::spawn(move || {
            ringer.hold();
            ringer.count(1);
            ringer.publish();
            mark(&mut ringer);
            ringer.release();
            ringer.hold();
            ringer.count(1);
        });
        assert_eq!(drain_asleep(doorbell), (1, 1));
        writer.join().unwrap();
    });
}

/// The doorbell is dropped with a stored waker, while the ringer rings.
#[test]
fn a_doorbell_that_is_dropped_frees_everything() {
    loom::model(|| {
        let held = Arc::new(());
        let (mut ringer, mut doorbell) = doorbell::<Arc<()>>();
        ringer.mark_at(0, held.clone(), |_, _, _| {});
        let reader = thread::spawn(move || {
            drop(doorbell.take());
            drop(doorbell);
        });
        ringer.count(1);
        ringer.publish();
        ringer.mark_at(1, held.clone(), |_, _, _| {});
        reader.join().unwrap();
        assert!(ringer.is_abandoned());
        drop(ringer);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}
