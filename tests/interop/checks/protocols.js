// What a relay says that it speaks, and that it answers pings.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { HOP } from '../hop.js'
import { startPeer } from '../peer.js'
import { RENDEZVOUS } from '../rendezvous.js'
import { inTime } from '../until.js'

export async function identifyAndPing ({ relays }) {
  const peer = await startPeer()
  for (const relay of relays) {
    const identified = nextIdentify(peer)
    await peer.dial(relay.tcp)
    const said = await identified
    assert.equal(said.peerId.toString(), relay.id)
    assert.match(said.agentVersion, /^waystation\//)
    for (const protocol of [HOP, RENDEZVOUS, '/ipfs/id/1.0.0', '/ipfs/ping/1.0.0']) {
      assert.ok(said.protocols.includes(protocol), `identify lists ${protocol}: ${said.protocols}`)
    }
    assert.ok(await peer.services.ping.ping(relay.tcp, { signal: inTime() }) >= 0)
  }
  await peer.stop()
}

async function nextIdentify (peer) {
  const [event] = await once(peer, 'peer:identify', { signal: inTime() })
  return event.detail
}
