// A peer that has its place at node 1 is dialled through either node, over every transport.

import assert from 'node:assert/strict'
import { noise } from '@chainsafe/libp2p-noise'
import { tls } from '@libp2p/tls'
import { startPeer, through } from '../peer.js'
import { transfer } from '../transfer.js'
import { inTime } from '../until.js'

// Dials `target` with a new peer by way of `relay`, and moves bytes both ways. `encryption` is that of the connection with
// the relay, and of the one within the circuit.
async function reach (target, relay, { security, encryption = '/noise' } = {}) {
  const source = await startPeer({ security })
  const connection = await source.dial(through(relay, target), { signal: inTime() })
  assert.equal(connection.remotePeer.toString(), target.peerId.toString())
  assert.equal(connection.limits, undefined, 'the circuit has no limits')
  const [withRelay] = source.getConnections().filter((open) => open !== connection)
  assert.deepEqual([withRelay.encryption, connection.encryption], [encryption, encryption])
  await transfer(connection)
  await source.stop()
}

export const throughItsOwnNode = ({ target, relays: [one] }) => reach(target, one.tcp)
export const throughTheOtherNode = ({ target, relays: [, two] }) => reach(target, two.tcp)
export const overWebSocket = ({ target, relays: [, two] }) => reach(target, two.websocket)
export const overTls = ({ target, relays: [, two] }) =>
  reach(target, two.tcp, { security: [tls(), noise()], encryption: '/tls/1.0.0' })
