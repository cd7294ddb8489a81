// What a cut, silent or lying network does to locks on Consul, whose shortest time to live is 10 seconds.
import { testNetwork } from "../servers/network.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul } from "../support/servers.mjs"

watchLeaks()

testNetwork(consul)
