//! The jobs of a listing, page by page: all to which the filters apply, or of these those that selectors
//! name.

use std::collections::BTreeSet;

use pool_proto::methods::{List, ListOrder};
use pool_proto::{Client, ClientError, Record};

use crate::cli::selector::Selector;
use crate::exit::ExitReason;
use crate::verbs::selection::{Scope, Selection, each_page};

/// See the module's description.
#[derive(Debug)]
pub struct Chosen {
    /// The filters, with the order.
    pub list: List,
    /// The jobs that are named. None: all.
    named: Option<BTreeSet<u64>>,
    /// The code of the verb when the rest is done.
    pub exit: ExitReason,
}

impl Chosen {
    /// Looks up the jobs that are named, arrays with those of their elements that are kept. What is named in
    /// vain is said.
    ///
    /// # Errors
    /// When an array or a pool does not exist, and when poold has gone.
    pub fn find(client: &mut Client, list: List, selectors: &[Selector]) -> anyhow::Result<Self> {
        if selectors.is_empty() {
            return Ok(Self { list, named: None, exit: ExitReason::Success });
        }
        let selection = Selection::find_existing(client, selectors, Scope::ANY)?;
        let exit = selection.exit();
        let named = selection.with_elements(client)?.ids().iter().copied().collect();
        Ok(Self { list, named: Some(named), exit })
    }

    /// Whether all jobs are listed to which the filters apply.
    pub fn is_open(&self) -> bool {
        self.named.is_none()
    }

    /// The same jobs by another request.
    pub fn with(&self, list: List) -> Self {
        Self { list, named: self.named.clone(), exit: self.exit }
    }

    /// Calls `take` with some of the jobs after the other.
    ///
    /// # Errors
    /// When poold has gone, or cannot read its store; and those of `take`.
    pub fn each_page<E: From<ClientError>>(
        &self,
        client: &mut Client,
        mut take: impl FnMut(&[Record]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(named) = &self.named else { return each_page(client, &self.list, take) };
        let Some((&first, &last)) = named.first().zip(named.last()) else { return Ok(()) };
        let is_newest = self.list.order == Some(ListOrder::Newest);

        // The listing begins at one end of what is named, and is not asked for beyond the other one.
        let mut after = if is_newest { last.saturating_add(1) } else { first.saturating_sub(1) };
        loop {
            let page = client.request(&List { after: Some(after), limit: None, ..self.list.clone() })?;
            let mut jobs = page.jobs;
            jobs.retain(|job| named.contains(&job.id));
            take(&jobs)?;
            match page.next {
                Some(next) if if is_newest { next > first } else { next < last } => after = next,
                _ => return Ok(()),
            }
        }
    }
}
