package policy

import (
	"slices"
	"strings"
)

// What evaluation has to know of the model that statements are checked against.

// The entity types of a request. A principal is an OAuthUser, which has the attribute id and string tags, or an IamEntity or an
// UnauthenticatedUser (whoever calls a gateway that asks nobody who they are), which have the attribute id and no tags; a gateway has
// no attributes.
const (
	TypeOAuthUser           = typeOAuthUser
	TypeIamEntity           = typeIamEntity
	TypeUnauthenticatedUser = typeUnauthenticatedUser
	TypeGateway             = typeGateway
	TypeAction              = typeAction
)

// PrincipalTypes are the types that a principal can have.
func PrincipalTypes() []string { return slices.Clone(principalTypes) }

var principalTypes = []string{typeOAuthUser, typeIamEntity, typeUnauthenticatedUser}

// HasTags says whether principals of a type can have tags.
func HasTags(principalType string) bool { return principalType == typeOAuthUser }

// ActionGroups are all groups that the action with this id is in, the nearest first. They follow from the id alone: a
// tool is in its target, a target in CallTool, CallTool in Mcp.
func ActionGroups(id string) []string {
	var groups []string
	pending := catalog{}.parents(id)
	for len(pending) > 0 {
		group := pending[0]
		pending = append(pending[1:], catalog{}.parents(group)...)
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

// ActionID is the id of a tool's action.
func ActionID(target, tool string) string { return target + actionSeparator + tool }

// SplitAction takes the id of a tool's action apart; ok is false for any other id.
func SplitAction(id string) (target, tool string, ok bool) { return strings.Cut(id, actionSeparator) }
