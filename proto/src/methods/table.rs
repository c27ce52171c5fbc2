//! What is made of the table of methods: the trait that ties a client's request to its reply, the requests
//! that the daemon reads, and the replies that it writes. The rows are in the parent module.

/// Makes [`Request`](super::Request) and the implementations of [`Method`](super::Method) from the rows.
macro_rules! methods {
    ($($name:ident $(($parameters:ty))? -> $reply:ident $(, $long:ident)?;)+) => {
        $(
            impl Method for $name {
                const NAME: &'static str = concat!("io.poold.", stringify!($name));
                type Reply = $reply;
            }
        )+

        /// What a client asks for: a method with its parameters.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Request {
            $(
                #[doc = concat!("The method `", stringify!($name), "`.")]
                $name $(($parameters))?,
            )+
        }

        impl Request {
            /// The full names of all methods, in the order of the table.
            pub const NAMES: &[&str] = &[$(<$name as Method>::NAME),+];

            /// Reads a request from the full name of its method and its parameters.
            ///
            /// # Errors
            /// The refusal to reply with: [`Refusal::MethodNotFound`], or [`Refusal::InvalidParameter`].
            pub fn parse(method: &str, given: Option<&RawValue>) -> Result<Self, Refusal> {
                match method {
                    $(<$name as Method>::NAME => Ok(table::read!($name, given $(, $parameters)?)),)+
                    _ => Err(Refusal::MethodNotFound { method: method.to_owned() }),
                }
            }

            /// The full name of the method.
            pub fn name(&self) -> &'static str {
                match self {
                    $(table::any!($name $(, $parameters)?) => <$name as Method>::NAME,)+
                }
            }

            /// Whether even a single reply may be as long as all the records that the request names.
            pub fn is_long(&self) -> bool {
                match self {
                    $(table::any!($name $(, $parameters)?) => table::long!($($long)?),)+
                }
            }
        }

        // Each row's reply is in the list of replies.
        const _: () = {
            const fn is_listed<R: Into<Reply>>() {}
            $(is_listed::<$reply>();)+
        };

        /// The rows, for the test that compares them with the interface's description.
        #[cfg(test)]
        const ROWS: &[description::MethodRow] = &[$(description::row::<$name>(stringify!($reply))),+];
    };
}

/// Makes [`Reply`](super::Reply) from the list of replies.
macro_rules! replies {
    ($($name:ident($carried:ty)),+ $(,)?) => {
        /// What the daemon replies: the parameters of one reply, of whichever method.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Reply {
            $(
                #[doc = concat!("The parameters of a reply of the type `", stringify!($name), "`.")]
                $name($carried),
            )+
        }

        $(
            impl From<$name> for Reply {
                fn from(reply: $name) -> Self {
                    Self::$name(reply.into())
                }
            }
        )+

        /// The names of all replies, for the test that finds each of them in the table of methods.
        #[cfg(test)]
        const REPLIES: &[&str] = &[$(stringify!($name)),+];
    };
}

/// A request of the method `$name`, its parameters read from `$given`. A method without parameters ignores
/// those given.
macro_rules! read {
    ($name:ident, $given:ident) => {
        Self::$name
    };
    ($name:ident, $given:ident, $parameters:ty) => {
        Self::$name(read_parameters::<$parameters>($given)?)
    };
}

/// The pattern of a request of the method `$name`.
macro_rules! any {
    ($name:ident) => {
        Self::$name
    };
    ($name:ident, $parameters:ty) => {
        Self::$name(_)
    };
}

/// Whether a row says `long`.
macro_rules! long {
    () => {
        false
    };
    (long) => {
        true
    };
}

pub(super) use {any, long, methods, read, replies};
