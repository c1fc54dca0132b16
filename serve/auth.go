package serve

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// authenticate lets in who may ask: whoever shows a certificate that the client authority vouches for, or a token. The health
// routes are open, and so is all of a server that asks for neither.
func (s *Server) authenticate(c *gin.Context) {
	if route := c.FullPath(); isProbe(route) && route != pathMetrics || strings.HasPrefix(route, pathDocs) {
		return
	}
	if state := c.Request.TLS; state != nil && len(state.VerifiedChains) > 0 {
		name, err := certifiedName(state.PeerCertificates[0])
		if err == nil {
			c.Set("caller", name)
			return
		}
	}
	if s.opts.Tokens == nil {
		if s.opts.Certified {
			s.refuse(c, unauthenticated("show a certificate that the server's --client-ca vouches for"))
		}
		return
	}
	scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		c.Header("WWW-Authenticate", "Bearer")
		s.refuse(c, unauthenticated("send a token: Authorization: Bearer TOKEN"))
		return
	}
	who := s.opts.Tokens.find(strings.TrimSpace(token))
	if who == nil {
		c.Header("WWW-Authenticate", `Bearer error="invalid_token"`)
		s.refuse(c, unauthenticated("the operator has a list of tokens, and yours is not on it"))
		return
	}
	c.Set("caller", who.name)
	leave, ok := who.enter()
	if !ok {
		s.refuse(c, problem(http.StatusTooManyRequests, "caller_limit", "send it again after the seconds that Retry-After says; the operator sets the limits of each token",
			"this caller has all the requests that it may have"))
		return
	}
	defer leave()
	c.Next()
}

func unauthenticated(cure string) *Problem {
	return problem(http.StatusUnauthorized, "unauthenticated", cure, "the server does not know who asks")
}
