//! One switch that stops every bot.
//!
//! ```
//! use infra_emergency::{Action, Clear, EmergencyController, Hold, Level, Scopes};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let emergency = EmergencyController::new();
//! let gate = emergency.gate(Scopes::bot("bot_001").in_group("equities"));
//!
//! let sending = gate.enter(Action::New)?; // kept until the order's fate is known
//! drop(sending);
//!
//! let hold = Hold::new(Level::Halt).id("loss-limit").actor("risk").reason("daily loss");
//! let id = emergency.raise(hold); // in effect, everywhere in this process, when it returns
//! assert!(gate.enter(Action::New).is_err());
//! assert!(gate.enter(Action::Cancel).is_ok());
//!
//! emergency.clear(Clear::id(id).actor("ann").reason("losses understood"))?;
//! assert!(gate.admits(Action::New));
//! # Ok(()) }
//! ```
//!
//! # How it works
//! A [`Hold`] says who stopped whom ([`Scope`]), how severely ([`Level`]) and why. The level of
//! somebody is the highest of the holds that concern them, so no message, however late, and no
//! second hold can undo a halt: only [`clear`](EmergencyController::clear) can, by the ids of the
//! holds that the clearer has seen, with an actor and a reason.
//!
//! A [`Gate`] is asked before each [`Action`]. The answer costs one atomic load, and it is right as
//! soon as [`raise`](EmergencyController::raise) has returned. Whoever passed before is listed, and
//! a [`drain`](EmergencyController::drain) waits for them.
//!
//! When a scope reaches Halt, the hooks run in this order: the gate is closed already; running
//! actions drain; [cancel hooks](EmergencyController::on_halt_cancel) cancel what is open;
//! [verify hooks](EmergencyController::on_halt_verify) look; while something is left, cancel and
//! verify again. Handlers and hooks are isolated: an error, a panic or a hang of one concerns no
//! other and never the level.
//!
//! # For whom is what
//! - Who trades: [`EmergencyController::gate`], [`Gate::enter`], [`InFlight`], [`Denied`].
//! - Who watches: [`EmergencyController::subscribe`], [`Signal`], [`Change`],
//!   [`EmergencyController::register_handler`].
//! - Who operates: [`EmergencyController::raise`], [`EmergencyController::set_level`],
//!   [`EmergencyController::holds`], [`EmergencyController::clear`],
//!   [`EmergencyController::audit`].
//! - Who tests: [`HoldSet`], the decisions without locks, clocks and tasks.
//!
//! # Layout
//! `level`, `scope`, `hold`: the words. `holds`: the set of holds, no I/O. `transition`: what each
//! call does to it. `cell`: one gate's level and who is inside, model-checked by loom. `gate`,
//! `controller`: the handles. `shared`: how a change reaches everybody. `handlers`, `procedure`,
//! `isolate`, `drain`: what runs afterwards. `signal`, `audit`: what is told and kept.
//!
//! # Reach
//! One process: holds live in memory and end with it. Nothing here reads the wall clock for a
//! decision; it stamps records only.

mod audit;
mod builder;
mod cell;
mod controller;
mod drain;
mod error;
mod gate;
mod handlers;
mod hold;
mod holds;
mod isolate;
mod level;
mod procedure;
mod scope;
mod shared;
mod signal;
mod sync;
mod transition;

// What of the shared words stands in this crate's signatures, so that nobody needs another dependency
// to read an error; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{self, BoxFuture, Class, Classify, Context, Outcome, SharedClock};

pub use audit::{AuditKind, AuditRecord};
pub use builder::Builder;
pub use controller::{EmergencyController, RaiseReport};
pub use drain::DrainReport;
pub use error::{Denied, Error, ErrorKind};
pub use gate::{Gate, InFlight, Straggler};
pub use hold::{ActiveHold, Clear, Hold, HoldId, InvalidHoldId, Origin};
pub use holds::{Effect, HoldSet, Raised, Stamp};
pub use isolate::IntoHandlerResult;
pub use level::{Action, Level, UnknownLevel};
pub use procedure::HaltReport;
pub use scope::{Scope, Scopes};
pub use signal::{Change, Failure, HookFailure, Signal, Signals};
