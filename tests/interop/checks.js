// What is checked, in order: each is a function of the cluster, which carries the peer that others dial from one to the next.

import * as dial from './checks/dial.js'
import { peerMovesWhenItsNodeLeaves } from './checks/drain.js'
import { identifyAndPing } from './checks/protocols.js'
import { nobodyWithoutPlaceIsReached } from './checks/refusals.js'
import { registeredHereFoundThere } from './checks/rendezvous.js'
import { peerListensAtOneNode, placeComesWithAddressesAndVoucher } from './checks/reserve.js'

export const checks = [
  ['identify lists what a relay speaks, and it answers pings', identifyAndPing],
  ['a place comes with the addresses of both nodes and a voucher that verifies', placeComesWithAddressesAndVoucher],
  ['a peer that listens at node 1 is reached through both', peerListensAtOneNode],
  ['8 MiB each way through node 1', dial.throughItsOwnNode],
  ['8 MiB each way through node 2', dial.throughTheOtherNode],
  ['8 MiB each way through node 2 over WebSocket', dial.overWebSocket],
  ['8 MiB each way through node 2 over TLS', dial.overTls],
  ['a peer without a place is not reached: NO_RESERVATION, promptly', nobodyWithoutPlaceIsReached],
  ['who registers at node 1 is discovered at node 2, and reached', registeredHereFoundThere],
  ['a peer whose node leaves service moves to node 2, and is reached', peerMovesWhenItsNodeLeaves]
]
