//! The methods of `io.poold`: one row a method, and the parameters and the reply of each in the file of its
//! method.
//!
//! The promise to clients is [`DESCRIPTION`]; a test compares it with the table. A new method is a type for
//! its parameters, a row here and an entry in `io.poold.varlink`; the compiler then asks the daemon what to
//! do with it.

mod table;

pub mod backup;
pub mod callback;
pub mod edit;
pub mod events;
pub mod input;
pub mod limit;
pub mod list;
pub mod pool;
pub mod schedule;
pub mod service;
pub mod signal;
pub mod status;
pub mod submit;
pub mod wait;

#[cfg(test)]
mod description;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::nouns::{Condition, Happening, Progress};
use crate::refusal::Refusal;
use crate::wire::message::RequestEnvelope;
pub use backup::{Backup, BackupBegun, EndBackup};
pub use callback::{
    CallbackGot, Callbacks, CallbacksAltered, CallbacksListed, DropCallbacks, GetCallback, MAX_CALLBACKS,
    OtherCallback, RetryCallbacks,
};
pub use edit::{Defined, Definition, Edit};
pub use events::Events;
pub use input::{CloseInput, InputOpened, OpenInput, Resize};
pub use limit::{LabelLimits, LabelLimitsListed, MAX_LIMITS, SetLabelLimit};
pub use list::{
    Absent, AbsentIds, Attempts, AttemptsListed, Count, Counted, Dependents, DependentsListed, Explained,
    Get, Got, List, ListOrder, Listed, MAX_ABSENT, MAX_EXPLAINED, Output, OutputOpened, StateCount, Why,
};
pub use pool::{
    AddPool, DrainPool, PoolRestarting, Pools, PoolsListed, RemovePool, RestartPool, SetPaused, SetWorkers,
};
pub use schedule::{
    AddSchedule, MAX_SCHEDULES, RemoveSchedules, RunSchedule, Schedules, SchedulesListed, SetSchedulesPaused,
};
pub use service::{SERVICE, ServiceReply};
pub use signal::{
    Altered, Cancel, Canceled, Hold, MAX_RELEASED, Move, Other, Release, Remove, Retry, SetFrozen, Signal,
};
pub use status::{Ping, Pong, Settings, SettingsListed, Shutdown, ShutdownMode, ShuttingDown, Status};
pub use submit::{MAX_JOBS, Spool, Spooled, Submit, SubmitMany, Submitted};
pub use wait::Wait;

/// The interface's name.
pub const INTERFACE: &str = "io.poold";

/// The interface's description in Varlink's language, as `org.varlink.service.GetInterfaceDescription` serves
/// it.
pub const DESCRIPTION: &str = include_str!("../io.poold.varlink");

/// A method's parameters, tied to its name and its reply.
pub trait Method: Serialize {
    /// The full name.
    const NAME: &'static str;
    /// The reply's parameters.
    type Reply: DeserializeOwned;
}

// A row reads: the method's name; its parameters, where it has any, as `Request` carries them; the parameters
// of its reply; and `long` where even a single reply may be as long as all the records that the request
// names, or brings descriptors: the connection's next request is read when that one is over.
table::methods! {
    Ping                        -> Pong;
    Submit(Box<Submit>)         -> Progress;
    SubmitMany(Box<SubmitMany>) -> Submitted;
    Spool                       -> Spooled, long;
    Wait(Wait)                  -> Progress, long;
    Get(Get)                    -> Got, long;
    List(Box<List>)             -> Listed, long;
    Count                       -> Counted;
    Output(Output)              -> OutputOpened, long;
    Cancel(Cancel)              -> Canceled, long;
    Signal(Signal)              -> Empty;
    OpenInput(OpenInput)        -> InputOpened, long;
    CloseInput(CloseInput)      -> Empty;
    Resize(Resize)              -> Empty;
    SetFrozen(SetFrozen)        -> Empty;
    Hold(Hold)                  -> Altered, long;
    Move(Move)                  -> Altered, long;
    Edit(Box<Edit>)             -> Empty;
    Definition(Definition)      -> Defined, long;
    Retry(Retry)                -> Altered, long;
    Remove(Remove)              -> Altered, long;
    Release(Release)            -> Empty;
    Callbacks(Callbacks)        -> CallbacksListed, long;
    GetCallback(GetCallback)    -> CallbackGot, long;
    RetryCallbacks(RetryCallbacks) -> CallbacksAltered, long;
    DropCallbacks(DropCallbacks) -> CallbacksAltered, long;
    Pools                       -> PoolsListed;
    AddPool(Box<AddPool>)       -> Empty;
    RemovePool(RemovePool)      -> Empty;
    RestartPool(RestartPool)    -> PoolRestarting;
    SetPaused(SetPaused)        -> Empty;
    DrainPool(DrainPool)        -> Empty;
    SetWorkers(SetWorkers)      -> Empty;
    AddSchedule(Box<AddSchedule>) -> Empty;
    Schedules(Schedules)        -> SchedulesListed, long;
    SetSchedulesPaused(SetSchedulesPaused) -> Empty;
    RunSchedule(RunSchedule)    -> Progress;
    RemoveSchedules(RemoveSchedules) -> Empty;
    LabelLimits                 -> LabelLimitsListed;
    SetLabelLimit(SetLabelLimit) -> Empty;
    Status                      -> Condition;
    Settings                    -> SettingsListed;
    Absent(Absent)              -> AbsentIds;
    Why(Why)                    -> Explained, long;
    Dependents(Dependents)      -> DependentsListed;
    Attempts(Attempts)          -> AttemptsListed;
    Events(Events)              -> Happening;
    Backup                      -> BackupBegun;
    EndBackup                   -> Empty;
    Shutdown(Shutdown)          -> ShuttingDown;
}

// Several methods share a reply, so the replies have a list of their own. The compiler refuses a row whose
// reply is missing in this list, and a test refuses a reply that no row has.
table::replies! {
    Pong(Pong),
    Progress(Progress),
    Submitted(Submitted),
    Spooled(Spooled),
    Got(Got),
    Listed(Listed),
    Counted(Counted),
    OutputOpened(OutputOpened),
    InputOpened(InputOpened),
    Canceled(Canceled),
    Altered(Altered),
    Defined(Box<Defined>),
    CallbacksListed(CallbacksListed),
    CallbackGot(CallbackGot),
    CallbacksAltered(CallbacksAltered),
    Empty(Empty),
    PoolsListed(PoolsListed),
    PoolRestarting(PoolRestarting),
    SchedulesListed(SchedulesListed),
    LabelLimitsListed(LabelLimitsListed),
    Condition(Box<Condition>),
    SettingsListed(SettingsListed),
    AbsentIds(AbsentIds),
    Explained(Explained),
    DependentsListed(DependentsListed),
    AttemptsListed(AttemptsListed),
    // The same happening goes to every client that listens.
    Happening(Arc<Happening>),
    BackupBegun(BackupBegun),
    ShuttingDown(ShuttingDown),
}

/// A reply without parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Empty {}

/// A request that has been read.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A request of `io.poold`.
    Request(Request),
    /// The answer to a request of `org.varlink.service`, which needs nothing from the daemon.
    Service(ServiceReply),
}

/// Reads the method and the parameters of a request.
///
/// # Errors
/// The refusal to reply with.
pub fn parse(envelope: &RequestEnvelope<&RawValue>) -> Result<Parsed, Refusal> {
    let method = envelope.method.as_str();
    if envelope.upgrade {
        return Err(Refusal::MethodNotImplemented { method: method.to_owned() });
    }

    let (interface, _) = method.rsplit_once('.').unwrap_or(("", method));
    match interface {
        SERVICE => service::answer(method, envelope.parameters).map(Parsed::Service),
        INTERFACE => Request::parse(method, envelope.parameters).map(Parsed::Request),
        _ => Err(Refusal::InterfaceNotFound { interface: interface.to_owned() }),
    }
}

/// Reads a method's parameters. A request without parameters is read as if it had an empty object.
///
/// # Errors
/// [`Refusal::InvalidParameter`], with what is wrong.
pub fn read_parameters<P: DeserializeOwned>(parameters: Option<&RawValue>) -> Result<P, Refusal> {
    let text = parameters.map_or("{}", RawValue::get);
    // serde would also read a struct from an array, which Varlink does not know.
    if !text.starts_with('{') {
        return Err(Refusal::InvalidParameter { parameter: "parameters: an object is needed".to_owned() });
    }
    serde_json::from_str(text).map_err(|error| Refusal::InvalidParameter { parameter: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nouns::HappeningKind;

    fn read(method: &str, given: &str) -> Result<Request, Refusal> {
        let given: &RawValue = serde_json::from_str(given).expect("the test writes JSON");
        Request::parse(method, Some(given))
    }

    #[test]
    fn a_request_is_read_with_its_parameters() {
        assert_eq!(read("io.poold.Get", r#"{"id":7}"#), Ok(Request::Get(Get { id: 7 })));
        assert_eq!(Request::parse("io.poold.Ping", None), Ok(Request::Ping));
        assert_eq!(Request::parse("io.poold.List", None), Ok(Request::List(Box::default())));
        let request = read("io.poold.SubmitMany", r#"{"jobs":[]}"#).expect("it is one");
        assert_eq!((request.name(), request.is_long()), ("io.poold.SubmitMany", false));
        assert!(read("io.poold.Wait", r#"{"ids":[1]}"#).expect("it is one").is_long());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let unknown = Refusal::MethodNotFound { method: "io.poold.Pong".to_owned() };
        assert_eq!(read("io.poold.Pong", "{}"), Err(unknown));
        for (given, said) in [
            ("[7]", "parameters: an object is needed"),
            ("{}", "missing field `id`"),
            (r#"{"id":"7"}"#, "invalid type: string \"7\", expected u64"),
            (r#"{"id":7,"ids":[7]}"#, "unknown field `ids`, expected `id`"),
        ] {
            let refusal = read("io.poold.Get", given).expect_err("it is none");
            let Refusal::InvalidParameter { parameter } = refusal else { panic!("{refusal:?}") };
            assert!(parameter.starts_with(said), "{parameter}");
        }
    }

    #[test]
    fn a_request_goes_to_the_interface_that_it_names() {
        fn envelope(text: &str) -> RequestEnvelope<&RawValue> {
            serde_json::from_str(text).expect("it is one")
        }
        assert_eq!(parse(&envelope(r#"{"method":"io.poold.Ping"}"#)), Ok(Parsed::Request(Request::Ping)));
        let info = parse(&envelope(r#"{"method":"org.varlink.service.GetInfo"}"#));
        assert!(matches!(info, Ok(Parsed::Service(ServiceReply::Info(_)))), "{info:?}");

        for (method, wanted) in [
            ("io.other.Ping", Refusal::InterfaceNotFound { interface: "io.other".to_owned() }),
            ("Ping", Refusal::InterfaceNotFound { interface: String::new() }),
            (
                "org.varlink.service.Ping",
                Refusal::MethodNotFound { method: "org.varlink.service.Ping".to_owned() },
            ),
        ] {
            let text = format!(r#"{{"method":{method:?}}}"#);
            assert_eq!(parse(&envelope(&text)), Err(wanted));
        }
        let upgrade = parse(&envelope(r#"{"method":"io.poold.Ping","upgrade":true}"#));
        assert_eq!(upgrade, Err(Refusal::MethodNotImplemented { method: "io.poold.Ping".to_owned() }));
    }

    #[test]
    fn a_reply_is_written_as_its_parameters() {
        let reply = Reply::from(AbsentIds { ids: vec![7] });
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"ids":[7]}"#);
        assert_eq!(serde_json::to_string(&Reply::from(Empty {})).unwrap(), "{}");
        let happening = Happening::new(HappeningKind::Held, "now".to_owned());
        let text = serde_json::to_string(&Reply::from(happening)).unwrap();
        assert_eq!(text, r#"{"event":"held","at":"now"}"#);
    }
}
