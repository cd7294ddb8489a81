// What a cut, silent or lying network does to locks on Consul, whose shortest time to live is 10 seconds. A little longer
// than that, because a machine that stands still for half of it loses holds rightly.
import { testGoodbye, testNetwork } from "../servers/network.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul } from "../support/servers.mjs"

watchLeaks()

testNetwork(consul, { ttl: 12 })
testGoodbye(consul, 600)
