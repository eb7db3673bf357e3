package message

// cached tells whether fields of this name, in lower case, are in the cache record. What is not cached is long and
// rarely asked for, or has an item of its own.
func cached(name []byte) bool {
	switch string(name) {
	case "bcc", "cc", "date", "delivery-date", "envelope-to", "from", "in-reply-to", "mime-version", "received",
		"return-path", "subject", "to",
		"dkim-signature", "domainkey-signature", "domainkey-x509", "message-id",
		"arc-seal", "arc-message-signature", "arc-authentication-results", "authentication-results", "received-spf",
		"archived-at", "listbox-message-date", "topicbox-message-uuid", "topicbox-policy-reasoning":
		return false
	case "x-mailer", "x-trace", "x-ref", "x-priority", "x-msmail-priority", "x-msoesrec",
		"x-spam-score", "x-resolved-to", "x-delivered-to", "x-mail-from", "x-truedomain-domain",
		"x-me-message-id", "x-cyrus-session-id",
		"x-universally-unique-identifier", "x-uniform-type-identifier", "x-apple-base-url",
		"x-apple-mail-remote-attachments":
		return true
	}
	return len(name) < 2 || name[0] != 'x' || name[1] != '-'
}
