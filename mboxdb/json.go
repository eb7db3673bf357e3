package mboxdb

import "encoding/json"

// MarshalText is the internal spelling, which JSON shows.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the internal spelling.
func (n *Name) UnmarshalText(text []byte) error {
	*n = InternalName(string(text))
	return nil
}

// recordJSON is the JSON of a record; it only grows.
type recordJSON struct {
	Name          Name         `json:"name"`
	Type          Type         `json:"type"`
	UniqueID      string       `json:"unique_id,omitempty"`
	Partition     string       `json:"partition,omitempty"`
	Server        string       `json:"server,omitempty"`
	UIDValidity   uint32       `json:"uid_validity,omitempty"`
	CreatedModSeq uint64       `json:"created_modseq,omitempty"`
	FolderModSeq  uint64       `json:"folder_modseq,omitempty"`
	Modified      int64        `json:"modified"`
	ACL           []ACLEntry   `json:"acl,omitempty"`
	History       []FormerName `json:"history,omitempty"`
}

// MarshalJSON writes the record with times in Unix seconds.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(recordJSON{r.Name, r.Type, r.UniqueID, r.Partition, r.Server, r.UIDValidity, r.CreatedModSeq, r.FolderModSeq, r.Modified, r.ACL, r.History})
}
