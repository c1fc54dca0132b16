package api

func problems() []Entry {
	return kind(OfProblem, [][4]string{
		{"bad_query", "A query parameter is wrong", "A parameter of the address is unknown, repeated, or out of its range. The detail names it.", "Correct the parameter; /docs lists them."},
		{"busy", "The server has all it can do", "As many requests are in the house as --max-studies allows. Nothing of this one was kept.", "Send it again after the seconds that Retry-After says. If it happens often: more cores, more servers, or int8 models."},
		{"caller_limit", "The caller has all that it may have", "The token's line in --tokens sets how many requests are answered at a time and in a second.", "Send it again after the seconds that Retry-After says, or have the operator raise the limits."},
		{"disk_full", "The server's disk is too full", "More of the disk is in use than --disk-high allows, so nothing is taken in.", "The operator makes room, or sets --retain. Send it again later, after the seconds that Retry-After says."},
		{"draining", "The server is stopping", "The server was told to stop. It finishes what it has and takes nothing more.", "Ask another server, or this one again when it is back."},
		{"file_too_large", "An object is too large", "One object has more bytes than --max-file-mib allows; of a deflated one the inflated bytes count.", "Send a smaller object, or have the operator raise --max-file-mib."},
		{"internal", "The server failed", "The server failed at this request; it is a defect, or the disk failed.", "Report it with the lines of the server's log of that moment: they name no patient."},
		{"malformed_body", "The body cannot be read", "The body broke off, or is not coded as HTTP says.", "Send it again; look for a proxy that cuts requests."},
		{"malformed_inference", "The inference request cannot be read", "The body is not what the Open Inference Protocol asks for, or its tensors are not those of the model. The detail names the tensor.", "GET /v2/models/NAME says which tensors the model takes: image, float32 [N,1,S,S] as cxr.Input makes it, and view, int64 [N]."},
		{"malformed_multipart", "The multipart body is damaged", "The parts of the body cannot be told apart: the boundary is missing, or the body ends before the last one.", "Let a library write the body, with the boundary in the Content-Type."},
		{"malformed_uid", "The path holds no UID", "A UID in the path has other characters than digits and periods, or more than 64 of them (PS3.5 9.1).", "Take the UIDs from the objects, or from a search."},
		{"malformed_zip", "The zip archive is damaged", "The archive cannot be read, or is encrypted.", "Make the archive again, without a password."},
		{"method_not_allowed", "The path knows another method", "There is something at this path, but not for this HTTP method.", "The header Allow names the methods; /docs lists all."},
		{"no_attention", "The model shows no attention", "?attention=true was asked of a model without that output.", "Ask without it, or serve a model made by `mvmae-export --attention`."},
		{"no_audit", "The audit log cannot be written", "The server answers nothing that it cannot note in --audit.", "The operator makes room for the log. Ask another server meanwhile."},
		{"no_store", "The server keeps no studies", "The route is one of studies that are kept, and the server runs without --data.", "Start it with --data, or classify with POST /v1/studies:classify, which keeps nothing."},
		{"no_such_instance", "No such object", "The study is held, but not this series or object of it.", "Search names what the study has."},
		{"no_such_model", "No such model", "The request names a model, or a version of it, that is not served.", "GET /v1/models lists what is; the operator adds files to --models."},
		{"no_such_study", "No such study", "No object of this study is held. Finished studies are removed after --retain.", "Send the study again."},
		{"no_such_version", "No such version of the study", "The study is held, but it never had an outcome of this version.", "The study's document names its versions."},
		{"no_usable_view", "No view can be classified", "The study holds no chest radiograph that can be read. Each object's own code is in rejected.", "Send at least one chest radiograph (CR or DX) for presentation; the codes of the rejected objects say what each lacks."},
		{"not_acceptable", "The answer has no such form", "The Accept header allows none of the forms that the server answers in.", "Send the Accept header that the hint names."},
		{"not_dead", "The study is no dead letter", "Only a dead letter can be tried again or discarded, and the study is none.", "Look at its state: it may be done by now."},
		{"not_found", "Nothing is at this path", "No route has this path.", "The routes are in /docs and /openapi.json."},
		{"not_offered", "DICOMweb resource not offered", "Rendered images, frames and bulk data are not handed out.", "Retrieve the objects themselves."},
		{"not_ready", "The model is being loaded", "The server runs, but its model is not warm yet.", "Wait until /readyz answers 200."},
		{"nothing_sent", "The request holds no part", "A request to store objects came without any.", "Send each object in a part of its own."},
		{"nothing_stored", "No object can be kept", "No object of the request can be kept. Each one's code is in rejected, or its reason in the body of STOW-RS.", "Send the DICOM objects of one study."},
		{"request_timeout", "The body did not arrive in time", "The body took longer to arrive than --read-timeout allows. The time in which the server was too busy to read does not count.", "Send less in one request, or have the operator raise --read-timeout."},
		{"request_too_large", "The request is too large", "The request has more bytes than --max-request-mib allows, or inflates to more.", "Send one study in each request, or have the operator raise --max-request-mib."},
		{"too_many_images", "Too many images in an inference request", "One request may hold 16 images.", "Send the images in several requests; the server runs them together where that is faster."},
		{"too_many_files", "The request has too many objects", "The request holds more objects than --max-files allows, or the archive's directory has more than 1 MiB.", "Send one study in each request, or have the operator raise --max-files."},
		{"two_patients", "The study is of two patients", "Objects of one study name different patients, so some are misfiled.", "Correct the PatientID (0010,0020) of the wrong objects."},
		{"two_studies", "The request holds several studies", "The objects have different Study Instance UIDs. The detail names their hashes.", "Send each study in its own request."},
		{"unauthenticated", "The server does not know who asks", "The request came without a token or certificate that the server knows.", "Send Authorization: Bearer TOKEN with a token of --tokens, or show a certificate that --client-ca vouches for."},
		{"unsupported_media_type", "The body has no known type", "The Content-Type, or the Content-Encoding, is none that the route takes.", "Send multipart/form-data, multipart/related; type=\"application/dicom\", application/zip or one application/dicom, without a content encoding. /v2 takes JSON."},
	})
}

func rejections() []Entry {
	return kind(OfRejection, [][4]string{
		{"burned_in", "Text in the pixels", "`mvmae-train deidentify` found text in the pixels and wrote no copy.", "Look at the picture: text may name the patient."},
		{"decoder_failed", "The decoder gave up", "The process that decodes JPEG-LS and JPEG 2000 died, hung, or was cut off at this image.", "The image is damaged, or larger than it says. `mvmae-serve doctor` shows whether the decoder works."},
		{"duplicate", "The object is there twice", "Another object has the same SOP Instance UID and the same picture. That one is used.", ""},
		{"for_processing", "Raw detector data", "The image is for processing, not for presentation (PresentationIntentType).", "Send the image FOR PRESENTATION of the same exposure."},
		{"internal", "The server failed", "The program failed at this object. It is a defect.", "Report it with the lines of the log of that moment: they name no patient."},
		{"malformed", "The object breaks DICOM's rules", "The object breaks the encoding rules of PS3.5; the detail names the place.", "Have it written again by the device or the PACS."},
		{"malformed_picture", "The picture cannot be decoded", "The file is neither a PNG nor a JPEG that can be decoded (`inspect` alone reads pictures).", ""},
		{"misplaced", "A UID is missing or none", "A UID that says what the object belongs to is missing, or is no UID.", "Correct StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID."},
		{"no_pixel_data", "The object has no pixels", "The object has no Pixel Data (7FE0,0010).", "Send the image itself, not its header."},
		{"no_study_instance_uid", "The object names no study", "StudyInstanceUID (0020,000D) is missing: nobody knows whose view this is.", "Correct the object at its source."},
		{"not_an_image", "The object is no image", "It is a report, a presentation state or a key object selection.", ""},
		{"not_chest", "Another body part", "The header names another body part than the chest.", "If the header is wrong, correct BodyPartExamined (0018,0015)."},
		{"not_dicom", "No DICOM object", "The file does not begin as PS3.10 says: 128 bytes, then DICM.", "Send DICOM Part 10 files."},
		{"too_large", "The object is past a limit", "It has more bytes, pixels, elements or depth than is allowed; the detail names the limit.", "The operator's --max-file-mib and --max-megapixels set the limits."},
		{"truncated", "The object is cut short", "The file ends before its lengths say so.", "Copy the file again: its end is missing."},
		{"unreadable", "The file cannot be read", "The system refused to read the file; the detail says why.", "Look at the file's permissions."},
		{"unsupported_pixels", "Pixels of an unknown kind", "The pixels are of a kind that is not decoded; the detail names it.", "Send a grayscale radiograph of 8 to 16 bits."},
		{"unsupported_transfer_syntax", "Pixels are compressed in an unknown way", "Nothing here decodes this transfer syntax; the detail names it.", "Store it uncompressed first, for instance with `gdcmconv --raw`. For JPEG-LS and JPEG 2000 run `make codecs build`."},
		{"wrong_modality", "No radiograph", "The modality is not CR or DX, nor one that --modalities adds.", "Only chest radiographs are read; --modalities CR,DX,DR,RG adds what older devices write."},
	})
}

func flags() []Entry {
	return kind(OfFlag, [][4]string{
		{"burned_in", "Text in the pixels", "As a flag: the header says that text is burned in, or a line of it can be seen.", ""},
		{"colour", "A colour image", "The image has colours; their luma was taken.", ""},
		{"constant", "An empty image", "All pixels have one value.", "Look at the picture: its probabilities mean nothing."},
		{"cropped", "A part of the chest may be missing", "An eighth is empty above and below, or one side is twice as long as the other.", ""},
		{"far_from_training", "Unlike the training images", "The embedding lies farther out than those of 99 % of the training images.", "Trust the answer less: the model has seen little like it."},
		{"inverted", "Black and white exchanged", "The picture looks like the negative of a chest.", "Look at PhotometricInterpretation (0028,0004)."},
		{"lateral_only", "No frontal view", "The study has laterals alone, which show less of most findings.", "Send the frontal view too."},
		{"low_contrast", "Little contrast", "Nearly all pixels lie in an eighth of the values that the brightest and the darkest span.", ""},
		{"no_body_part", "Body part not named", "Nothing in the header says that this is a chest.", ""},
		{"rotated", "Rotated", "It looks like a chest that lies on its side or is upside down.", ""},
		{"sop_instance_uid_shared", "A UID used twice", "Another object of the study has the same SOP Instance UID and another picture.", "--same-uid says which of them is used."},
		{"tiny", "Few pixels", "One side has fewer pixels than the model's input.", ""},
		{"view_conflict", "The header contradicts itself", "Another part of the header names another view than the one taken, or a decubitus, oblique or lordotic one.", ""},
		{"view_evidence_untrained", "View known by other evidence", "The view is known by evidence that the training images never had, or by none.", ""},
		{"view_mismatch", "Picture and header disagree", "It looks like the other view than the header's.", ""},
	})
}

func associations() []Entry {
	return kind(OfAssociation, [][4]string{
		{"associations", "Too many associations", "As many associations are open as --max-associations allows. The caller is told to try again.", ""},
		{"called_ae", "Another title was called", "The caller asked for another AE title than --ae-title.", "Correct the title at the caller."},
		{"calling_ae", "The caller is not listed", "The caller's AE title is in no --peer.", "List it with --peer AE@HOST:PORT."},
		{"calling_host", "The caller's address is not listed", "The title is listed with another address, or nobody is listed and the caller is on another machine.", "Correct --peer."},
		{"commitment", "No report of storage commitment", "There is no address to report to, or nobody took the report.", "Give the peer an address: --peer AE@HOST:PORT."},
		{"context", "A service that is not offered", "The caller proposed a presentation context that is not offered. No harm: many propose all that they know.", ""},
		{"object", "The store refused an object", "The disk is too full, or the UIDs do not match.", "The log names the reason."},
		{"object_broken", "An object broke off", "The association ended inside an object; nothing of it is kept.", "The caller sends it again."},
		{"object_size", "An object is too large", "The object has more bytes than --max-file-mib allows.", "Raise --max-file-mib."},
		{"object_uid", "An object's UIDs are none", "The UIDs of the object or of the command are no UIDs.", "Correct the object at its source."},
		{"operation", "A message that is not offered", "The caller asked for an operation that is not offered.", ""},
		{"protocol", "Something other than DICOM", "What came breaks PS3.7 or PS3.8.", "Look who calls this port: port scanners do."},
		{"rate", "Too many associations in a second", "The caller is told to try again.", ""},
		{"timeout", "Silence", "The peer said nothing in time.", "Look at the network and at firewalls that forget connections."},
		{"tls", "No TLS", "The caller speaks no TLS, or its certificate does not hold.", "docs/pacs.md says how to set it up."},
	})
}
