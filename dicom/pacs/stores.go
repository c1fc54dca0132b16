package pacs

// Stores says whether objects of a SOP class are taken in, by whatever way they come.
func Stores(sopClassUID string) bool { return stored[sopClassUID] }
