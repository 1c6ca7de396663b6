/** What goes under [limits] where one machine stands for many: no share of an address or of an identity is reached. */
export const CROWD = `
connections_per_address = 1000000
connections_per_identity = 1000000
unauthenticated_per_address = 1000000
waiting_per_address = 1000000
lingering_per_address = 1000000
address_connects_per_s = 0
identity_connects_per_s = 0
address_refusals_per_s = 0
failed_tokens = 0
replacements = 0
`;
