//! Who may do what. Nobody else asks who somebody is.

use pool_proto::{Refusal, Request};

use crate::job::UserId;

/// The rights of users. For now there is one answer: everything belongs to the user that poold runs as, and
/// nobody else may do anything.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    owner: UserId,
}

impl Rights {
    /// `owner`: the user that poold runs as.
    pub fn new(owner: UserId) -> Self {
        Self { owner }
    }

    /// Whether a user may connect. The server asks when a client does.
    ///
    /// # Errors
    /// What the client is told.
    pub fn admits(&self, uid: UserId) -> Result<(), Refusal> {
        if uid == self.owner {
            Ok(())
        } else {
            Err(Refusal::NotOwner { uid: uid.get(), owner: self.owner.get() })
        }
    }

    /// Whether a user may ask for this. The desk asks once for each request, before anything is done about
    /// it.
    ///
    /// # Errors
    /// What the client is told.
    pub fn may(&self, uid: UserId, _asked: &Request) -> Result<(), Refusal> {
        self.admits(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_anything() {
        let rights = Rights::new(UserId::new(1000));
        assert_eq!(rights.admits(UserId::new(1000)), Ok(()));
        assert_eq!(rights.may(UserId::new(1000), &Request::Ping), Ok(()));

        let refusal = Refusal::NotOwner { uid: 0, owner: 1000 };
        assert_eq!(rights.admits(UserId::new(0)), Err(refusal.clone()), "not even root");
        assert_eq!(rights.may(UserId::new(0), &Request::Ping), Err(refusal));
    }
}
