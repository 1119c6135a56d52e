// A peer takes a place at one node, and says that it is reached through both.

import assert from 'node:assert/strict'
import { HOP, openVoucher, reserve } from '../hop.js'
import { isReachedThrough, placeAt, startPeer } from '../peer.js'
import { answerTransfers } from '../transfer.js'
import { until } from '../until.js'

// What node 1 gives once it knows where node 2 is reached, which a new cluster takes a moment for.
export async function placeComesWithAddressesAndVoucher ({ relays: [one, two] }) {
  const peer = await startPeer()
  const connection = await peer.dial(one.tcp)
  const place = await until('a place comes with the addresses of both nodes', async () => {
    const place = await reserve(connection)
    return [...one.addresses, ...two.addresses].every((address) => place.addresses.some((told) => told.equals(address))) && place
  })
  assert.ok(place.expire > Date.now() / 1000 + 60, 'the place lasts for a while')
  assert.equal(place.limited, false, 'circuits have no limits by default')

  const voucher = await openVoucher(place.voucher)
  assert.deepEqual(voucher.type, Buffer.from([0x03, 0x02]), 'the type is that of vouchers')
  assert.equal(voucher.signer.toString(), one.id, 'the relay has signed it')
  assert.deepEqual(voucher.relay, Buffer.from(voucher.signer.toMultihash().bytes), 'and says its own id')
  assert.deepEqual(voucher.peer, Buffer.from(peer.peerId.toMultihash().bytes), 'and that of the peer')
  assert.equal(voucher.expiration, place.expire)
  await peer.stop()
}

// Listening as an application does; this peer is the one that others dial.
export async function peerListensAtOneNode (state) {
  const [one, two] = state.relays
  const target = await startPeer({ listen: [placeAt(one.tcp)] })
  await answerTransfers(target)
  for (const { id } of [one, two]) {
    await until('the peer says that it is reached through both nodes', () => isReachedThrough(target, id))
  }
  assert.equal(target.getConnections().length, 1, 'though it is connected to one only')
  assert.ok((await target.peerStore.get(target.getConnections()[0].remotePeer)).protocols.includes(HOP))
  state.target = target
}
