//! Connections, listeners and notifiers for threads without async.
//!
//! ```no_run
//! # fn example() -> Result<(), pgbell::Error> {
//! use pgbell::blocking::Listener;
//!
//! let mut listener = Listener::connect("postgres://localhost/shop")?;
//! listener.listen("orders")?;
//! for event in &mut listener {
//!     println!("{}", event?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The types have the names and methods of the asynchronous ones, which they contain, and the same guarantees: the same queue, the same
//! losses, the same errors. [`guide::blocking`](crate::guide::blocking) is the chapter of the guide.
//!
//! # Threads
//!
//! | type | threads of its own |
//! |---|---|
//! | [`Listener`] | one, named `pgbell`, which always reads the socket into the queue. A thread that receives takes from the queue directly, and is unparked when something arrives |
//! | [`Notifier`] | one for all clones, named `pgbell`. A call waits until that thread has the answer of the server |
//! | [`Connection`] | none: the thread that calls reads and writes the socket. One after a call [inside of a tokio runtime](#inside-of-a-tokio-runtime) |
//!
//! Such a thread runs a tokio runtime with one thread. Further ones are started while it resolves names or reads files, and for the
//! hook of a listener, and end when they have been unused for some seconds. A program should not have hundreds of listeners: one can
//! listen to many channels, and a thread of the program can pass its notifications on. With a runtime, a [`Hub`](crate::Hub) does that.
//!
//! # What a call blocks
//!
//! A call blocks the thread that makes it, and nothing else. Its documentation says for how long. Methods whose documentation does not
//! mention it do not block. A drop blocks as [below](#the-end).
//!
//! # Inside of a tokio runtime
//!
//! Every call works in a task too: it neither panics nor waits for the task's own runtime. But it blocks a thread of that runtime, and
//! with it other tasks, and the sockets and timers if there is no other thread. If what it waits for happens only in that runtime, for
//! example if a task of the same thread sends the notification, it never returns. Make such calls in
//! [`spawn_blocking`](tokio::task::spawn_blocking), or use the asynchronous types.
//!
//! # Where a call cannot wait
//!
//! A call that waits returns [`ErrorKind::Misuse`](crate::ErrorKind::Misuse), with a hint, and has no effect:
//!
//! - in a background thread: there it would wait for itself, or stop a listener from reading. Code of the application runs there only
//!   in recorders of the log and of metrics, in a TLS configuration, and in tasks that it spawns on the thread's runtime. The
//!   [hook](ListenerBuilder::on_live) and a [password provider](crate::Config::password_provider) run in other threads, where calls can
//!   wait;
//! - in a process that was forked after the value was created, because a fork copies only the thread that calls it. Connect again in the
//!   child, for which a builder of the parent can be used. There, `try_recv` returns that error too when its queue is empty, and
//!   [`nudge`](Notifier::nudge) does nothing. The drop of a [`Connection`] does nothing. Leave the other values of the parent alone
//!   (`std::mem::forget`): their sockets are shared with the parent, and another thread may have held a lock when the process was
//!   forked. The sockets are open until both processes have closed them, or have ended;
//! - on a [`Connection`], in the drop of a thread-local value, if that of tokio is gone already.
//!
//! # The end
//!
//! [`Listener::close`] and [`Notifier::close`] end the session, and wait for that. The drop of a listener, or of the last clone of a
//! notifier, ends the session and the background thread, and waits for both for at most a second: after that the thread ends by itself.
//! Inside of a tokio runtime, and where a call cannot wait, a drop does not wait. A panic of the thread that owns a value drops it, and so
//! ends the session.
//!
//! If the process ends while there are values, because `main` returns or calls `exit`, the operating system closes the sockets, and
//! nothing waits. Every notification whose call has returned is committed.

mod background;
mod builder;
mod connection;
mod handle;
mod hook;
mod hook_run;
mod iter;
#[cfg(feature = "json")]
mod json;
mod listener;
mod notifier;
mod notifier_builder;
mod park;
mod reactor;
mod runtime;
mod scope;
#[cfg(test)]
mod tests;
mod waiter;

pub use self::builder::ListenerBuilder;
pub use self::connection::Connection;
pub use self::handle::ListenerHandle;
pub use self::iter::{IntoIter, Iter};
#[cfg(feature = "json")]
pub use self::json::{EventSource, JsonStream};
pub use self::listener::Listener;
pub use self::notifier::Notifier;
pub use self::notifier_builder::NotifierBuilder;
pub use self::scope::ListenScope;
