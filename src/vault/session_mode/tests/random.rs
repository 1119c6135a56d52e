//! Whatever happens, in whatever order: messages arrive in order, and both ends agree at last.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Register(usize, u64),
    Leave(usize, u64),
    Pair(usize),
    Accept(usize),
    Refuse(usize),
    VaultSays(usize),
    VaultCloses(usize),
    AgentSays(usize),
    AgentLeaves(usize),
    Arrive(usize),
    Break,
    Full(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (node, socket, session) = (|| 0usize..2, || 1u64..4, || 0usize..6);
    let op = prop_oneof![
        2 => (node(), socket()).prop_map(|(node, socket)| Op::Register(node, socket)),
        1 => (node(), socket()).prop_map(|(node, socket)| Op::Leave(node, socket)),
        4 => node().prop_map(Op::Pair),
        6 => session().prop_map(Op::Accept),
        1 => session().prop_map(Op::Refuse),
        6 => session().prop_map(Op::VaultSays),
        1 => session().prop_map(Op::VaultCloses),
        6 => session().prop_map(Op::AgentSays),
        1 => session().prop_map(Op::AgentLeaves),
        12 => node().prop_map(Op::Arrive),
        1 => Just(Op::Break),
        1 => any::<bool>().prop_map(Op::Full),
    ];
    prop::collection::vec(op, 1..120)
}

/// A session of a random run: where its agent is, and how much each side has said.
struct Known {
    id: SessionId,
    node: usize,
    outbox: Outbox,
    heard: Vec<Value>,
    vault_said: u64,
    agent_said: u64,
}

/// Every way in which a vault's socket may stand somewhere: two nodes, three sockets each.
fn sockets() -> impl Iterator<Item = (usize, u64)> {
    (0..2).flat_map(|node| (1..4).map(move |socket| (node, socket)))
}

/// The numbers of the messages among `frames` are 1, 2, 3… up to `said` at most, and nothing follows the end.
fn assert_faithful(frames: &[&Value], said: u64) {
    let numbers: Vec<_> = frames.iter().filter_map(|frame| frame["payload"].as_u64()).collect();
    assert!(
        numbers.iter().copied().eq(1..=numbers.len() as u64) && numbers.len() as u64 <= said,
        "{numbers:?} of {said}"
    );
    let end = frames.iter().position(|frame| frame["type"] == "closed");
    assert!(end.is_none_or(|end| end == frames.len() - 1), "{frames:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_messages_arrive_in_order_and_both_ends_agree_at_last(ops in ops()) {
        let mut net = Net::new();
        let mut vaults: HashMap<(usize, u64), (Outbox, Vec<Value>)> = HashMap::new();
        let mut sessions: Vec<Known> = Vec::new();
        for op in ops {
            match op {
                Op::Register(node, socket) => {
                    vaults.entry((node, socket)).or_insert_with(|| (net.register(node, socket, "v"), Vec::new()));
                }
                Op::Leave(node, socket) => {
                    net.on(node, |table, context| table.vaults.leave(socket, "gone", context));
                    vaults.remove(&(node, socket));
                }
                Op::Pair(node) => {
                    let id = id(sessions.len() as u8);
                    let outbox = net.pair(node, id, "v");
                    sessions.push(Known { id, node, outbox, heard: Vec::new(), vault_said: 0, agent_said: 0 });
                }
                Op::Arrive(node) => drop(net.arrive(node)),
                Op::Break => net.break_links(),
                Op::Full(full) => net.full = full,
                Op::Accept(at) | Op::Refuse(at) | Op::VaultSays(at) | Op::VaultCloses(at)
                | Op::AgentSays(at) | Op::AgentLeaves(at) => {
                    // The newest sessions: older ones are mostly over.
                    let Some(known) = sessions.iter_mut().rev().nth(at) else { continue };
                    let id = known.id;
                    match op {
                        Op::AgentSays(_) => known.agent_said += u64::from(net.agent_says(known.node, id, known.agent_said + 1)),
                        Op::AgentLeaves(_) => net.on(known.node, |table, context| table.agents.leave(id, "gone", context)),
                        _ => for (node, socket) in sockets() {
                            match op {
                                Op::Accept(_) => drop(net.accept(node, socket, id)),
                                Op::Refuse(_) => drop(net.on(node, |t, c| t.vaults.refuse(socket, id, None, c))),
                                Op::VaultCloses(_) => drop(net.on(node, |t, c| t.vaults.close(socket, id, c))),
                                _ => known.vault_said += u64::from(net.vault_says(node, socket, id, known.vault_said + 1)),
                            }
                        },
                    }
                }
            }
        }
        net.full = false;
        for _ in 0..2 {
            for node in [0, 1] {
                net.on(node, |table, context| table.say_owed(|_| true, context));
                net.on(node, |table, context| table.link_up(&run(1 - node), context));
            }
            net.settle();
        }
        for (outbox, heard) in vaults.values_mut() {
            heard.extend(sent(outbox));
        }
        for known in &mut sessions {
            known.heard.extend(sent(&known.outbox));
            assert_faithful(&known.heard.iter().collect::<Vec<_>>(), known.vault_said);
            for (_, heard) in vaults.values() {
                let mine = |frame: &&Value| frame["session_id"] == known.id.to_string();
                assert_faithful(&heard.iter().filter(mine).collect::<Vec<_>>(), known.agent_said);
            }
            // Both ends are open, or neither is.
            let agent_open = net.agent_says(known.node, known.id, 0);
            let vault_open = sockets().filter(|(node, socket)| net.vault_says(*node, *socket, known.id, 0)).count();
            prop_assert_eq!(usize::from(agent_open), vault_open);
        }
        let open = sessions.iter().filter(|known| net.agent_says(known.node, known.id, 0)).count();
        let counted: i64 = net.metrics.iter().map(|metrics| metrics.vault.sessions.get()).sum();
        prop_assert_eq!(counted, open as i64);
    }
}
