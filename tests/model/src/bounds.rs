//! How much may happen in one world.

use clap::Args;

/// How often each thing may happen, at most. A world in which nothing is left to happen ends.
#[derive(Debug, Clone, Args)]
pub struct Bounds {
    /// How often members move, over both guilds.
    #[arg(long, default_value_t = 3)]
    pub events: u8,
    /// Members of each guild.
    #[arg(long, default_value_t = 1)]
    pub members: u8,
    /// How often a worker dies, or a second one claims.
    #[arg(long, default_value_t = 1)]
    pub crashes: u8,
    /// How often Discord forgets the gateway session.
    #[arg(long, default_value_t = 1)]
    pub expiries: u8,
    /// How often Discord stops answering RESUMEs of the session, without ending it.
    #[arg(long, default_value_t = 0)]
    pub stalls: u8,
    /// How often a delivery, or its answer, is lost, late, or arrives twice.
    #[arg(long, default_value_t = 1)]
    pub losses: u8,
    /// How often the hub loses its store.
    #[arg(long, default_value_t = 0)]
    pub wipes: u8,
    /// How often the store is replaced by an older copy: at most once.
    #[arg(long, default_value_t = 0)]
    pub restores: u8,
    /// How many dispatches cannot be read.
    #[arg(long, default_value_t = 0)]
    pub illegible: u8,
    /// Events that the worker's outbox holds.
    #[arg(long, default_value_t = 4)]
    pub cap: usize,
    /// Events of one delivery.
    #[arg(long, default_value_t = 2)]
    pub batch: usize,
    /// A worker that was replaced and whose claim the hub does not know takes the shard back;
    /// else it ends.
    #[arg(long)]
    pub fights: bool,
    /// Stop after so many states.
    #[arg(long, default_value_t = 3_000_000)]
    pub states: usize,
}
