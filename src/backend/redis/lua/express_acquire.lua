-- For the express lane: takes a lock that is free and that nobody waits for, without a fencing token; else does nothing. The first case of
-- acquire_plain.lua and nothing else, at half the server's time, most of which goes into taking keys and arguments. Readers need no look: while
-- they hold the lock the main key exists, and without it their holds are gone.
--
-- KEYS     MAIN and QUEUE of words.lua
-- ARGV[1]  what the main key is to hold     ARGV[2]  ttl (ms)
-- returns  1 if the lock was taken, 0 if not

return redis.call('EXISTS', KEYS[2]) == 0 and redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') and 1 or 0
