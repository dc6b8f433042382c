//! A log in memory, for tests of the log events.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Runs a test in this thread, with the log events of everything that it does.
    pub(crate) fn run(&self, test: impl Future<Output = ()>) {
        self.run_at(Level::INFO, test);
    }

    /// Runs a test in this thread, with the log events of this level and of higher ones.
    pub(crate) fn run_at(&self, level: Level, test: impl Future<Output = ()>) {
        let subscriber = tracing_subscriber::fmt().with_max_level(level);
        let subscriber = subscriber.with_writer(self.clone()).with_ansi(false).finish();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tracing::subscriber::with_default(subscriber, || runtime.block_on(test));
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
