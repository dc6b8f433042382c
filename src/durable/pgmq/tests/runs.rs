//! Runs that share a task, and those that have one of their own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::job::Job;
use super::super::runs::{Ended, RunEnd, Runs, UserFunctions};
use super::message;
use crate::dispatcher::{Outcome, erased};

/// Ends at once, except that it panics, waits or blocks its thread for jobs with these ids.
const PANICS: i64 = 1_001;
const WAITS: i64 = 1_002;
const BLOCKS: i64 = 1_003;

/// How long a handler blocks, unless the test releases it before.
const BLOCKED_MAX: Duration = Duration::from_secs(60);

struct Scene {
    runs: Runs,
    /// Lets what waits or is blocked end.
    release: watch::Sender<bool>,
}

impl Scene {
    fn new() -> Self {
        let (release, released) = watch::channel(false);
        let handler = move |job: Job| {
            let mut released = released.clone();
            async move {
                match job.msg_id() {
                    PANICS => panic!("on purpose"),
                    WAITS => drop(released.wait_for(|is_released| *is_released).await),
                    BLOCKS => {
                        let begun = Instant::now();
                        while !*released.borrow() && begun.elapsed() < BLOCKED_MAX {
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                    _ => {}
                }
            }
        };
        let functions = UserFunctions { handler: Some(erased(handler)), on_dead: None };
        let (wanted, _) = mpsc::channel(1);
        Self { runs: Runs::new(Arc::new(functions), wanted), release }
    }

    fn start(&mut self, ids: impl IntoIterator<Item = i64>) {
        self.runs.start(ids.into_iter().map(|id| message(id, 1)).collect());
    }

    /// Runs quick ones until several share a task. On a busy machine a quick run can be slow.
    async fn warm_up(&mut self) {
        for _ in 0..10_000 {
            self.start(1..=20);
            let is_shared = self.runs.wait_until().is_some();
            self.ends(20).await;
            if is_shared {
                return;
            }
        }
        panic!("no runs share a task");
    }

    /// Waits for this number of ends.
    async fn ends(&mut self, count: usize) -> Vec<Ended> {
        let mut ends = Vec::new();
        while ends.len() < count {
            let next = timeout(BLOCKED_MAX / 2, self.runs.ended()).await;
            ends.extend(next.expect("no run ends").expect("nothing runs"));
        }
        ends
    }
}

fn ids(ends: &[Ended]) -> BTreeSet<i64> {
    ends.iter().map(|(id, _)| *id).collect()
}

fn run(test: impl AsyncFnOnce()) {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test());
}

#[test]
fn a_run_that_waits_keeps_none_of_those_that_share_its_task_from_ending() {
    run(async || {
        let mut scene = Scene::new();
        scene.warm_up().await;
        scene.start([1, 2, WAITS, 3, 4]);
        let ends = scene.ends(4).await;
        assert_eq!(ids(&ends), BTreeSet::from([1, 2, 3, 4]));
        assert_eq!((scene.runs.jobs(), scene.runs.wait_until()), (1, None));
        scene.release.send_replace(true);
        let ends = scene.ends(1).await;
        assert!(matches!(ends[..], [(WAITS, RunEnd::Ended(Outcome::Done))]));
        assert_eq!(scene.runs.jobs(), 0);
        assert!(scene.runs.ended().await.is_none());
    });
}

#[test]
fn after_a_run_that_was_not_quick_each_has_a_task_of_its_own() {
    run(async || {
        let mut scene = Scene::new();
        scene.warm_up().await;
        scene.start([WAITS]);
        scene.release.send_replace(true);
        scene.ends(1).await;
        scene.release.send_replace(false);
        // They share no task with the one that blocks its thread.
        scene.start([BLOCKS, 1, 2, 3]);
        assert_eq!(scene.runs.wait_until(), None);
        assert_eq!(ids(&scene.ends(3).await), BTreeSet::from([1, 2, 3]));
        scene.release.send_replace(true);
        assert_eq!(ids(&scene.ends(1).await), BTreeSet::from([BLOCKS]));
    });
}

#[test]
fn a_panic_is_the_end_of_its_run_only() {
    run(async || {
        let mut scene = Scene::new();
        scene.warm_up().await;
        scene.start([1, PANICS, 2]);
        for (id, outcome) in scene.ends(3).await {
            match (id, outcome) {
                (PANICS, RunEnd::Ended(Outcome::Panicked(message))) => {
                    assert_eq!(message, "on purpose");
                }
                (1 | 2, RunEnd::Ended(Outcome::Done)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn all_runs_are_cancelled_in_whichever_task_they_are() {
    run(async || {
        let mut scene = Scene::new();
        scene.warm_up().await;
        // It may have been started, and has been taken out of its task or not.
        scene.start([WAITS, 1, 2]);
        let mut ends = scene.runs.stop();
        scene.runs.cancel();
        let left = 3 - ends.len();
        ends.extend(scene.ends(left).await);
        assert_eq!(ids(&ends), BTreeSet::from([1, 2, WAITS]));
        let waits = ends.iter().find(|(id, _)| *id == WAITS).unwrap();
        assert!(matches!(waits.1, RunEnd::Cancelled | RunEnd::NotStarted), "{waits:?}");
        assert!(scene.runs.ended().await.is_none());
        assert_eq!(scene.runs.jobs(), 0);
    });
}

#[test]
fn a_run_that_blocks_its_thread_holds_back_neither_what_has_ended_nor_what_was_to_follow() {
    run(async || {
        let mut scene = Scene::new();
        scene.warm_up().await;
        scene.start([1, 2, BLOCKS, 3, 4]);
        let until = scene.runs.wait_until().unwrap();
        let mut ended = BTreeSet::new();
        let begun = Instant::now();
        while ended.len() < 4 {
            // As the consumer does, whose timer ends then.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = until.max(Instant::now());
            while let Some(ends) = scene.runs.next_ended(now) {
                ended.extend(ids(&ends));
            }
            assert!(begun.elapsed() < BLOCKED_MAX / 2, "{ended:?}");
        }
        assert_eq!((ended, scene.runs.jobs()), (BTreeSet::from([1, 2, 3, 4]), 1));
        scene.release.send_replace(true);
        assert_eq!(ids(&scene.ends(1).await), BTreeSet::from([BLOCKS]));
    });
}

#[test]
fn no_handler_is_called_after_a_stop_was_requested() {
    run(async || {
        let mut scene = Scene::new();
        scene.warm_up().await;
        scene.start([BLOCKS, 1, 2]);
        let mut ends = scene.runs.stop();
        scene.release.send_replace(true);
        while let Some(more) = scene.runs.ended().await {
            ends.extend(more);
        }
        let not_started: BTreeSet<_> = ends
            .iter()
            .filter(|(_, end)| matches!(end, RunEnd::NotStarted))
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(ids(&ends), BTreeSet::from([1, 2, BLOCKS]));
        assert!(not_started.is_superset(&BTreeSet::from([1, 2])), "{ends:?}");
    });
}
