// SPDX-License-Identifier: Apache-2.0
// Reads CMS objects with Bouncy Castle, for the interoperability tests.
//   Cms verify OBJECT CA [CONTENT]     signature, certificate from CA; writes the content
//   Cms decrypt OBJECT KEY CERTIFICATE  PKCS#8 and X.509, both PEM; writes the content
// Exits 0 only if every signature verified, or the message was opened.
import java.io.FileReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.PrivateKey;
import java.util.Collection;
import org.bouncycastle.asn1.ASN1InputStream;
import org.bouncycastle.asn1.cms.CMSObjectIdentifiers;
import org.bouncycastle.asn1.cms.ContentInfo;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.CMSAuthEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.Recipient;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.RecipientInformationStore;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.cms.jcajce.JceKeyAgreeEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyAgreeRecipientId;
import org.bouncycastle.cms.jcajce.JceKeyTransEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientId;
import org.bouncycastle.cms.KeyAgreeRecipientInformation;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.PEMParser;
import org.bouncycastle.openssl.jcajce.JcaPEMKeyConverter;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;

public final class Cms {
    private static final BouncyCastleProvider BC = new BouncyCastleProvider();

    public static void main(String[] args) throws Exception {
        byte[] object = Files.readAllBytes(Path.of(args[1]));
        try (ASN1InputStream in = new ASN1InputStream(object)) {
            // DER, not BER: the same bytes come out again.
            byte[] again = in.readObject().getEncoded("DER");
            if (!java.util.Arrays.equals(object, again)) {
                throw new Exception("the object is not DER");
            }
        }
        byte[] content = args[0].equals("verify")
                ? verify(object, args[2], args.length > 3 ? args[3] : null)
                : decrypt(object, args[2], args[3]);
        System.out.write(content);
        System.out.flush();
    }

    private static Object pem(String path) throws Exception {
        try (PEMParser parser = new PEMParser(new FileReader(path))) {
            return parser.readObject();
        }
    }

    private static byte[] verify(byte[] object, String ca, String detached) throws Exception {
        byte[] content = detached == null ? null : Files.readAllBytes(Path.of(detached));
        CMSSignedData data = content == null ? new CMSSignedData(object)
                : new CMSSignedData(new CMSProcessableByteArray(content), object);
        X509CertificateHolder root = (X509CertificateHolder) pem(ca);
        Collection<SignerInformation> signers = data.getSignerInfos().getSigners();
        if (signers.isEmpty()) {
            throw new Exception("nobody signed");
        }
        for (SignerInformation signer : signers) {
            var matches = data.getCertificates().getMatches(signer.getSID());
            X509CertificateHolder cert = (X509CertificateHolder) matches.iterator().next();
            if (!cert.isSignatureValid(
                    new JcaContentVerifierProviderBuilder().setProvider(BC).build(root))) {
                throw new Exception("the certificate is not of the CA");
            }
            if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider(BC).build(cert))) {
                throw new Exception("bad signature");
            }
        }
        return content != null ? content : (byte[]) data.getSignedContent().getContent();
    }

    private static byte[] decrypt(byte[] object, String keyFile, String certFile) throws Exception {
        PrivateKey key = new JcaPEMKeyConverter().setProvider(BC)
                .getPrivateKey((PrivateKeyInfo) pem(keyFile));
        var cert = new JcaX509CertificateConverter().setProvider(BC)
                .getCertificate((X509CertificateHolder) pem(certFile));
        ContentInfo info = ContentInfo.getInstance(object);
        RecipientInformationStore recipients =
                info.getContentType().equals(CMSObjectIdentifiers.authEnvelopedData)
                ? new CMSAuthEnvelopedData(object).getRecipientInfos()
                : new CMSEnvelopedData(object).getRecipientInfos();
        boolean isRsa = key.getAlgorithm().equals("RSA");
        RecipientInformation ours = recipients.get(
                isRsa ? new JceKeyTransRecipientId(cert) : new JceKeyAgreeRecipientId(cert));
        if (ours == null) {
            throw new Exception("not for this certificate");
        }
        if (isRsa == (ours instanceof KeyAgreeRecipientInformation)) {
            throw new Exception("another kind of recipient than the key");
        }
        Recipient recipient = isRsa
                ? new JceKeyTransEnvelopedRecipient(key).setProvider(BC)
                : new JceKeyAgreeEnvelopedRecipient(key).setProvider(BC);
        return ours.getContent(recipient);
    }
}
