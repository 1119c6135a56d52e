// A node that leaves service sends its peers away, and they have a place at the other before it is gone.

import assert from 'node:assert/strict'
import { isReachedThrough, startPeer, through } from '../peer.js'
import { answerTransfers, transfer } from '../transfer.js'
import { inTime, until, within } from '../until.js'

// The peer listens wherever it finds a relay, and is known to both; js-libp2p then looks for another place by itself.
export async function peerMovesWhenItsNodeLeaves ({ target, relays: [one, two] }) {
  const moving = await startPeer({ listen: ['/p2p-circuit'] })
  await answerTransfers(moving)
  await moving.dial(one.tcp)
  await until('the peer has a place at node 1', () => isReachedThrough(moving, one.id))
  await moving.dial(two.tcp)

  one.drain()
  await until('the peer has lost its place at node 1', () => !isReachedThrough(moving, one.id))
  await until('the peer has a place at node 2', () => isReachedThrough(moving, two.id))
  await until('the peer that listened at node 1 only is reached nowhere', () => target.getMultiaddrs().length === 0)
  assert.equal(await within('node 1 ends', one.ended), 0)

  const source = await startPeer()
  await transfer(await source.dial(through(two.tcp, moving), { signal: inTime() }))
  await source.stop()
}
