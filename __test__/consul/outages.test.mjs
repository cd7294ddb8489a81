// What a program is told while Consul is away.
import { testOutages } from "../servers/outages.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul } from "../support/servers.mjs"

watchLeaks()

testOutages(consul)
