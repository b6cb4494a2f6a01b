//! A primary, its replicas, and the connections to them.

use std::fmt;
use std::sync::Arc;

use crate::acked::Acked;
use crate::acknowledge::Acknowledge;
use crate::connection::Connection;
use crate::mux::Mux;
use crate::options::RedisOptions;
use crate::replicas::{ReadFrom, Replicas};
use crate::url::Address;

/// A primary and the connection to it.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    address: Address,
    connection: Connection,
    /// Carries the writes where more than the primary's answer is asked for.
    acked: Option<Arc<Acked<Mux>>>,
    replicas: Option<Replicas<Mux>>,
}

impl Node {
    pub(super) fn new(address: Address, options: RedisOptions) -> Self {
        let acked = match options.acknowledge {
            Acknowledge::Accepted => None,
            _ => Some(Acked::lazy(&options)),
        };
        let replicas = match options.read_from {
            ReadFrom::Primary => None,
            _ => Some(Replicas::unknown()),
        };
        Node(Arc::new(Inner {
            address,
            connection: Connection::lazy(options),
            acked,
            replicas,
        }))
    }

    /// Where it listens, as the cluster says.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// The connection to it, made at the first call; it is closed when the node leaves the
    /// cluster.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    pub(super) fn acked(&self) -> Option<&Arc<Acked<Mux>>> {
        self.0.acked.as_ref()
    }

    pub(super) fn replicas(&self) -> Option<&Replicas<Mux>> {
        self.0.replicas.as_ref()
    }

    /// Reads come from these from now on, which the cluster names.
    pub(super) fn follow_replicas(&self, announced: &[Address]) {
        if let Some(replicas) = &self.0.replicas {
            let options = self.connection().options().clone().readonly();
            let map = &options.address_map;
            let addresses: Vec<_> = announced.iter().map(|one| map.reachable(one)).collect();
            replicas.become_of(&options, &addresses);
        }
    }

    pub(super) fn close(&self) {
        self.0.acked.iter().for_each(|acked| acked.close());
        self.0.replicas.iter().for_each(Replicas::close);
        self.0.connection.close();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", self.address())
            .field("connection", self.connection())
            .finish()
    }
}
