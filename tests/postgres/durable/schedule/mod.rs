//! Random schedules of writers and readers on real servers, step by step, against a model of what must be delivered.
//!
//! ```text
//! writers: begin, write, savepoints, commit, roll back, prepare ──▶ log ──▶ cursors: read, acknowledge in five ways, rewind, take over
//! foreign transactions: xids of their own and of subtransactions ──┘ ▲                                  │
//!                                                         rotate ────┴────────── acknowledged ◀─────────┘
//! ```
//! One step is over before the next one begins, so the model knows what is committed at each read. It has [sets of records](model::ModelCursor), and
//! neither snapshots nor xids. [Wrong functions](wrong::WrongFunction) show that a schedule can see their errors.
//!
//! `PGBELL_SEED=n` replays one run; `PGBELL_SEEDS=n` runs `n` seeds.

mod cases;
mod fault;
mod model;
mod position;
mod reader;
mod run;
mod writers;
mod wrong;

use pgbell::Connection;

use self::cases::ScheduleCases;
use self::fault::RunFailure;
use self::run::{Plan, Schedule};
use self::writers::{OTHER, Writers};
use self::wrong::{WRONG, WrongFunction};
use crate::matrix::on_every_version;
use crate::support::{Server, installation, run_for};

on_every_version! {
    random_schedules_deliver_every_record_once_and_in_order
}

/// The number of seeds of each version.
const SEEDS: u64 = 2;
const STEPS: u64 = 500;

/// The number of seeds within which a wrong function must fail, and their steps. Most fail in the first one.
const WRONG_SEEDS: u64 = 20;
const WRONG_STEPS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

/// The sessions of all runs with one server.
struct Sessions {
    url: String,
    /// The number of runs until now.
    runs: u64,
    parts: Option<(Connection, Vec<Connection>)>,
}

impl Sessions {
    async fn new(server: &Server) -> Self {
        let mut session = server.connection().await;
        session.simple_query(OTHER).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..Writers::sessions() {
            connections.push(Connection::connect(server.url()).await.unwrap());
        }
        Self { url: server.url(), runs: 0, parts: Some((session, connections)) }
    }

    async fn run(
        &mut self,
        plan: Plan,
        wrong: Option<&WrongFunction>,
    ) -> Result<ScheduleCases, RunFailure> {
        let (session, connections) = self.parts.take().expect("the run before has ended");
        self.runs += 1;
        let name = format!("run_{}", self.runs);
        let mut schedule = Schedule::new(plan, &self.url, &name, session, connections).await;
        if let Some(wrong) = wrong {
            wrong.plant(schedule.session(), &name).await;
        }
        let result = Box::pin(schedule.run()).await;
        self.parts = Some(Box::pin(schedule.end()).await);
        result
    }
}

fn server(major: Option<u32>) -> Server {
    Server::with(|builder| {
        let builder = builder.setting("max_prepared_transactions", "10");
        match major {
            Some(major) => builder.installation(installation(major)),
            None => builder,
        }
    })
}

#[expect(clippy::print_stdout, reason = "the output of the test says what has happened")]
fn random_schedules_deliver_every_record_once_and_in_order(major: u32) {
    let server = server(Some(major));
    let (first, count) = match number("PGBELL_SEED") {
        Some(seed) => (seed, 1),
        None => (u64::from(major) * 1_000, number("PGBELL_SEEDS").unwrap_or(SEEDS)),
    };
    let longest = std::time::Duration::from_secs(120 + 10 * count);
    run_for(longest, async {
        let mut sessions = Sessions::new(&server).await;
        let mut sum = ScheduleCases::default();
        for seed in first..first + count {
            let plan = Plan { seed, steps: STEPS, checks_positions: true };
            match sessions.run(plan, None).await {
                Ok(cases) => sum.add(&cases),
                Err(failure) => panic!("{failure}"),
            }
        }
        println!("{count} schedules from {first}: {sum:?}");
        if count >= SEEDS {
            let (rarest, times) = sum.rarest();
            assert!(times > 0, "{rarest} does not happen");
        }
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "the output of the test says what has happened")]
fn a_schedule_sees_the_errors_of_wrong_functions() {
    let server = server(None);
    run_for(std::time::Duration::from_secs(240), async {
        let mut sessions = Sessions::new(&server).await;
        for wrong in WRONG {
            let mut found = None;
            for seed in 0..WRONG_SEEDS {
                // Only by what is delivered.
                let plan = Plan { seed, steps: WRONG_STEPS, checks_positions: false };
                if let Err(failure) = sessions.run(plan, Some(wrong)).await {
                    found = Some((seed, failure));
                    break;
                }
            }
            let Some((seed, failure)) = found else { panic!("not found: {}", wrong.name) };
            assert!(wrong.faults.contains(&failure.fault), "{}: {failure}", wrong.name);
            println!("{}: {:?} in seed {seed}", wrong.name, failure.fault);
        }
    });
}
