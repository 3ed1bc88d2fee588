-- Sends the receipt for a direct message. ARGV: the sender's server, the receipt's number, '1' if
-- the message was delivered, the message's id.
push('inbox:' .. ARGV[3], 'k', 'ack', 'a', ARGV[4], 'd', ARGV[5], 'i', ARGV[6])
return { 'ok' }
