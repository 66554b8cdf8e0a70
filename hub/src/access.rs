//! Which guilds a principal may see, through which view, and with which rights. Pure. Which rooms a
//! view shows is decided in [`crate::view`].

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::problem::Code;
use proto::{ChannelId, GuildId};

use crate::auth::Principal;
use crate::error::ApiError;
use crate::view::{RoomsShown, View};

/// The access rules of this hub. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Access {
    guilds: Arc<[GuildId]>,
    shown: Arc<RoomsShown>,
}

impl Access {
    /// The rules for these guilds, the primary one first.
    pub fn new(primary: GuildId, others: &[GuildId], shown: RoomsShown) -> Self {
        let mut guilds = vec![primary];
        for guild in others {
            if !guilds.contains(guild) {
                guilds.push(*guild);
            }
        }
        Self {
            guilds: guilds.into(),
            shown: Arc::new(shown),
        }
    }

    /// The guild of tokens and requests that name no guild.
    pub fn primary(&self) -> Option<GuildId> {
        self.guilds.first().copied()
    }

    /// The guilds that this hub serves, the primary one first.
    pub fn guilds(&self) -> &[GuildId] {
        &self.guilds
    }

    /// The guilds that this hub serves and the principal's token allows: those of its claim
    /// `guilds`, without that claim the primary one alone.
    pub fn guilds_of(&self, principal: &Principal) -> Vec<GuildId> {
        self.guilds
            .iter()
            .copied()
            .filter(|guild| self.allows(principal, *guild))
            .collect()
    }

    /// The guilds that this hub serves and whose rooms the principal may read, perhaps none.
    ///
    /// # Errors
    /// `FORBIDDEN` for a token without the right to read.
    pub fn readable_guilds(&self, principal: &Principal) -> Result<Vec<GuildId>, ApiError> {
        may_read(principal)?;
        Ok(self.guilds_of(principal))
    }

    /// What a principal sees of a guild, narrowed to `only` some rooms where asked.
    ///
    /// # Errors
    /// `FORBIDDEN` for a token without the right to read, and for a guild that the token does not
    /// allow; one that does not exist looks the same.
    pub fn view(
        &self,
        principal: &Principal,
        guild: GuildId,
        only: Option<BTreeSet<ChannelId>>,
    ) -> Result<View, ApiError> {
        may_read(principal)?;
        if !self.guilds.contains(&guild) || !self.allows(principal, guild) {
            return Err(ApiError::new(
                Code::Forbidden,
                "The token does not allow this guild.",
            ));
        }
        Ok(self.whole_view(guild, only))
    }

    /// The view of a guild by the hub's settings alone, for any principal.
    pub fn whole_view(&self, guild: GuildId, only: Option<BTreeSet<ChannelId>>) -> View {
        View::new(guild, Arc::clone(&self.shown), only)
    }

    fn allows(&self, principal: &Principal, guild: GuildId) -> bool {
        match &principal.guilds {
            Some(guilds) => guilds.contains(&guild),
            None => self.primary() == Some(guild),
        }
    }
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    if principal.rights.read {
        return Ok(());
    }
    Err(ApiError::new(
        Code::Forbidden,
        "The token lacks rooms:read.",
    ))
}
