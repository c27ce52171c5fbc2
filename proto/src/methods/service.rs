//! The interface `org.varlink.service`, which every Varlink service has: what the service is, and the
//! description of each of its interfaces. poold answers these requests from what is compiled in.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{DESCRIPTION, INTERFACE, Method, read_parameters};
use crate::refusal::Refusal;

/// The name of the interface.
pub const SERVICE: &str = "org.varlink.service";

/// The description of <https://varlink.org/Service>, which every Varlink service serves.
pub const SERVICE_DESCRIPTION: &str = include_str!("../org.varlink.service.varlink");

/// Parameters of `GetInfo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GetInfo {}

impl Method for GetInfo {
    const NAME: &'static str = "org.varlink.service.GetInfo";
    type Reply = ServiceInfo;
}

/// Reply of `GetInfo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each member means")]
pub struct ServiceInfo {
    pub vendor: String,
    pub product: String,
    pub version: String,
    pub url: String,
    pub interfaces: Vec<String>,
}

/// Parameters of `GetInterfaceDescription`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each member means")]
pub struct GetInterfaceDescription {
    pub interface: String,
}

impl Method for GetInterfaceDescription {
    const NAME: &'static str = "org.varlink.service.GetInterfaceDescription";
    type Reply = InterfaceDescription;
}

/// Reply of `GetInterfaceDescription`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface description says what each member means")]
pub struct InterfaceDescription {
    pub description: String,
}

/// What a request to `org.varlink.service` is answered with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ServiceReply {
    /// To `GetInfo`.
    Info(ServiceInfo),
    /// To `GetInterfaceDescription`.
    Description(InterfaceDescription),
}

/// The answer to a request to `org.varlink.service`, from the full name of its method and its parameters.
///
/// # Errors
/// The refusal to reply with.
pub fn answer(method: &str, parameters: Option<&RawValue>) -> Result<ServiceReply, Refusal> {
    match method {
        GetInfo::NAME => Ok(ServiceReply::Info(ServiceInfo {
            vendor: "poold".to_owned(),
            product: "poold".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: env!("CARGO_PKG_REPOSITORY").to_owned(),
            interfaces: vec![SERVICE.to_owned(), INTERFACE.to_owned()],
        })),
        GetInterfaceDescription::NAME => {
            let GetInterfaceDescription { interface } = read_parameters(parameters)?;
            let description = match interface.as_str() {
                INTERFACE => DESCRIPTION.to_owned(),
                SERVICE => SERVICE_DESCRIPTION.to_owned(),
                _ => return Err(Refusal::InterfaceNotFound { interface }),
            };
            Ok(ServiceReply::Description(InterfaceDescription { description }))
        }
        _ => Err(Refusal::MethodNotFound { method: method.to_owned() }),
    }
}
