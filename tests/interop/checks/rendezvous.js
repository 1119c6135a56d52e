// Who registers at one node is discovered at the other, and reached with nothing but what is told there.

import assert from 'node:assert/strict'
import { startPeer } from '../peer.js'
import { discover, register } from '../rendezvous.js'
import { transfer } from '../transfer.js'
import { inTime, until } from '../until.js'

const NAMESPACE = 'waystation/interop'

export async function registeredHereFoundThere ({ target, relays: [one, two] }) {
  const [withOne] = target.getConnections().filter(({ remotePeer }) => remotePeer.toString() === one.id)
  assert.equal(await register(target, withOne, NAMESPACE), 7200)

  const source = await startPeer()
  const withTwo = await source.dial(two.tcp)
  const [found] = await until('the peer is found at node 2', async () => {
    const all = await discover(withTwo, NAMESPACE)
    return all.length > 0 && all
  })
  assert.equal(found.peerId.toString(), target.peerId.toString())
  const connection = await source.dial(found.multiaddrs, { signal: inTime() })
  await transfer(connection)
  await source.stop()

  const hasty = await startPeer()
  const told = await discover(await hasty.dial(two.tcp), NAMESPACE)
  assert.equal(told.length, 1, 'who asks before the relay knows what it is is told the same')
  await hasty.stop()
}
