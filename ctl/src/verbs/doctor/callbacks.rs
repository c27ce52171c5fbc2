//! The callbacks: whether some were given up.

use pool_proto::Client;
use pool_proto::methods::Count;

use super::Check;

/// One check; none where poold is too old to count.
pub fn look(client: &mut Client) -> Option<Check> {
    let counted = match client.request(&Count {}) {
        Ok(counted) => counted.failed_callbacks?,
        Err(error) => return Some(Check::note("callbacks", format!("they cannot be counted: {error}"))),
    };
    let text = match counted {
        0 => return Some(Check::ok("callbacks", "none was given up")),
        1 => "1 callback failed each time and was given up".to_owned(),
        failed => format!("{failed} callbacks failed each time and were given up"),
    };
    let advice = "`poolctl callbacks ls --failed` shows them, `poolctl callbacks retry failed` runs them \
                  again, and `poolctl callbacks drop failed` drops them";
    Some(Check::problem("callbacks", text).advise(advice))
}
