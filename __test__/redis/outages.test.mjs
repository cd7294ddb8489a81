// What a program is told while Redis is away.
import { testOutages } from "../servers/outages.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { redis } from "../support/servers.mjs"

watchLeaks()

testOutages(redis)
