//! From a frame to a typed request: the one place that knows the methods' names.

use pool_proto::Refusal;
use pool_proto::condition::{Absent, Status};
use pool_proto::events::Events;
use pool_proto::interface::{self, DESCRIPTION, INTERFACE, Method};
use pool_proto::message::Call;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// A call of `io.poold`, with its parameters read.
#[derive(Debug)]
pub enum Request {
    Ping,
    Submit(Box<interface::Submit>),
    SubmitMany(Box<interface::SubmitMany>),
    Spool,
    Wait(interface::Wait),
    Get(interface::Get),
    List(interface::List),
    Output(interface::Output),
    Cancel(interface::Cancel),
    Signal(interface::Signal),
    Release(interface::Release),
    Pools,
    Status,
    Absent(Absent),
    AddPool(Box<interface::AddPool>),
    RemovePool(interface::RemovePool),
    Events(Events),
    Backup,
    EndBackup,
    Shutdown(interface::Shutdown),
}

impl Request {
    /// Whether even a single reply may be as long as all records that were asked for.
    pub fn has_long_reply(&self) -> bool {
        match self {
            Self::Wait(_) | Self::Get(_) | Self::List(_) | Self::Cancel(_) => true,
            Self::Ping
            | Self::Submit(_)
            | Self::SubmitMany(_)
            | Self::Spool
            | Self::Output(_)
            | Self::Signal(_)
            | Self::Release(_)
            | Self::Pools
            | Self::Status
            | Self::Absent(_)
            | Self::AddPool(_)
            | Self::RemovePool(_)
            | Self::Events(_)
            | Self::Backup
            | Self::EndBackup
            | Self::Shutdown(_) => false,
        }
    }
}

/// What a call of `org.varlink.service` is answered with.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub enum ServiceReply {
    Info {
        vendor: &'static str,
        product: &'static str,
        version: &'static str,
        url: &'static str,
        interfaces: [&'static str; 2],
    },
    Description {
        description: &'static str,
    },
}

/// A call, read.
#[derive(Debug)]
pub enum Parsed {
    Request(Request),
    /// Answered without the daemon's help.
    Service(ServiceReply),
}

const SERVICE: &str = "org.varlink.service";

/// The description of <https://varlink.org/Service>, which every Varlink service serves.
const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// Reads a call's method and parameters.
///
/// # Errors
/// The refusal to reply with.
pub fn parse(call: &Call<&RawValue>) -> Result<Parsed, Refusal> {
    let (interface, method) = call.method.rsplit_once('.').unwrap_or(("", &call.method));
    if call.upgrade {
        return Err(Refusal::MethodNotImplemented { method: call.method.clone() });
    }
    match interface {
        SERVICE => parse_service(method, call).map(Parsed::Service),
        INTERFACE => parse_request(call).map(Parsed::Request),
        _ => Err(Refusal::InterfaceNotFound { interface: interface.to_owned() }),
    }
}

fn parse_service(method: &str, call: &Call<&RawValue>) -> Result<ServiceReply, Refusal> {
    #[derive(Deserialize)]
    struct GetInterfaceDescription {
        interface: String,
    }
    match method {
        "GetInfo" => Ok(ServiceReply::Info {
            vendor: "poold",
            product: "poold",
            version: env!("CARGO_PKG_VERSION"),
            url: env!("CARGO_PKG_REPOSITORY"),
            interfaces: [SERVICE, INTERFACE],
        }),
        "GetInterfaceDescription" => {
            let GetInterfaceDescription { interface } = parameters(call)?;
            match interface.as_str() {
                INTERFACE => Ok(ServiceReply::Description { description: DESCRIPTION }),
                SERVICE => Ok(ServiceReply::Description { description: SERVICE_DESCRIPTION }),
                _ => Err(Refusal::InterfaceNotFound { interface }),
            }
        }
        _ => Err(Refusal::MethodNotFound { method: call.method.clone() }),
    }
}

fn parse_request(call: &Call<&RawValue>) -> Result<Request, Refusal> {
    use interface::{
        AddPool, Backup, Cancel, EndBackup, Get, List, Output, Ping, Pools, Release, RemovePool, Shutdown,
        Signal, Spool, Submit, SubmitMany, Wait,
    };
    Ok(match call.method.as_str() {
        Ping::NAME => Request::Ping,
        Submit::NAME => Request::Submit(parameters(call)?),
        SubmitMany::NAME => Request::SubmitMany(parameters(call)?),
        Spool::NAME => Request::Spool,
        Wait::NAME => Request::Wait(parameters(call)?),
        Get::NAME => Request::Get(parameters(call)?),
        List::NAME => Request::List(parameters(call)?),
        Output::NAME => Request::Output(parameters(call)?),
        Cancel::NAME => Request::Cancel(parameters(call)?),
        Signal::NAME => Request::Signal(parameters(call)?),
        Release::NAME => Request::Release(parameters(call)?),
        Pools::NAME => Request::Pools,
        Status::NAME => Request::Status,
        Events::NAME => Request::Events(parameters(call)?),
        Absent::NAME => Request::Absent(parameters(call)?),
        AddPool::NAME => Request::AddPool(parameters(call)?),
        RemovePool::NAME => Request::RemovePool(parameters(call)?),
        Backup::NAME => Request::Backup,
        EndBackup::NAME => Request::EndBackup,
        Shutdown::NAME => Request::Shutdown(parameters(call)?),
        _ => return Err(Refusal::MethodNotFound { method: call.method.clone() }),
    })
}

fn parameters<P: DeserializeOwned>(call: &Call<&RawValue>) -> Result<P, Refusal> {
    let text = call.parameters.map_or("{}", RawValue::get);
    if !text.starts_with('{') {
        return Err(Refusal::InvalidParameter { parameter: "parameters: an object is needed".to_owned() });
    }
    serde_json::from_str(text).map_err(|error| Refusal::InvalidParameter { parameter: error.to_string() })
}
