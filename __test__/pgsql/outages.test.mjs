// What a program is told while PostgreSQL is away.
import { testOutages } from "../servers/outages.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { postgres } from "../support/servers.mjs"

watchLeaks()

testOutages(postgres)
