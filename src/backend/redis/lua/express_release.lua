-- For the express lane: ends an exclusive hold that nobody waits behind; else does nothing. The first case of release_plain.lua and nothing else.
--
-- KEYS     MAIN, QUEUE and TURNS of words.lua
-- ARGV[1]  what the main key holds if it is the owner's
-- returns  1 if the hold was ended, 0 if not: somebody waits, or the owner does not hold the lock

return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('EXISTS', KEYS[2]) == 0
    and redis.call('DEL', KEYS[1], KEYS[3]) and 1 or 0
